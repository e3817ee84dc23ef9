/*
 * The screen of `berth top`, by ncurses.
 *
 * Line 0: the summary; 1: headings; then the table; the last line: keys. Without colours
 * (a monochrome terminal, or NO_COLOR set) bold and reverse tell the same.
 */
#include "cli/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if BERTH_NCURSES
#include <ncurses.h>

enum { HEAD_LINES = 2, FOOT_LINES = 1, LINE_MAX_CHARS = 512 };

enum view { VIEW_TABLE, VIEW_DETAILS, VIEW_HELP };

struct screen {
    struct berth__top *top;
    struct berth__top_details details;
    double interval_s;
    enum view view;
    pid_t selected;    /* the process that the bar is on */
    size_t bar, first; /* its line in the table; the first line that is shown */
    size_t detail_first;
    chtype head, warn, bad; /* attributes */
};

static size_t body_lines(void) {
    return LINES > HEAD_LINES + FOOT_LINES ? (size_t)(LINES - HEAD_LINES - FOOT_LINES) : 0;
}

/* As much of a text as the line has room for; the rest of the line gets the attributes too. */
static void put(size_t line, chtype attributes, const char *text) {
    if ((int)line >= LINES) {
        return;
    }
    attrset((int)attributes);
    mvhline((int)line, 0, ' ' | attributes, COLS);
    mvaddnstr((int)line, 0, text, COLS);
    attrset((int)A_NORMAL);
}

/* ---- the table ---- */

/* The bar stays on its process, wherever that is now. */
static void find_bar(struct screen *screen) {
    const struct berth__top *top = screen->top;
    for (size_t i = 0; i < top->count; i++) {
        if (top->rows[i].pid == screen->selected) {
            screen->bar = i;
            return;
        }
    }
    screen->bar = top->count == 0 ? 0 : screen->bar < top->count ? screen->bar : top->count - 1;
    screen->selected = top->count == 0 ? 0 : top->rows[screen->bar].pid;
}

static void scroll_to_bar(struct screen *screen) {
    size_t lines = body_lines();
    if (screen->bar < screen->first) {
        screen->first = screen->bar;
    } else if (lines > 0 && screen->bar >= screen->first + lines) {
        screen->first = screen->bar - lines + 1;
    }
}

static chtype attributes_of(const struct screen *screen, const struct berth__top_row *row) {
    if (row->why[0] != '\0') {
        return A_DIM;
    }
    bool limited = row->limit != UINT64_MAX;
    double share = limited && row->limit > 0 ? (double)row->used / (double)row->limit : 0;
    return share >= 0.95 ? screen->bad : share >= 0.8 ? screen->warn : A_NORMAL;
}

static void draw_headings(const struct screen *screen) {
    char line[LINE_MAX_CHARS];
    size_t width;
    size_t start = berth__top_column_start(screen->top->sort, &width);
    const char *heading = berth__top_heading(screen->top->sort);
    berth__top_line(NULL, line, sizeof(line));
    put(1, screen->head, line);
    size_t at = width > strlen(heading) ? start + width - strlen(heading) : start;
    if ((int)at < COLS && LINES > 1) { /* the column that sorts */
        attrset((int)(A_BOLD | A_UNDERLINE | screen->head));
        mvaddnstr(1, (int)at, heading, COLS - (int)at);
        attrset((int)A_NORMAL);
    }
}

static void draw_table(struct screen *screen) {
    char line[LINE_MAX_CHARS];
    const struct berth__top *top = screen->top;
    berth__top_summary(top, line, sizeof(line));
    put(0, A_BOLD, line);
    draw_headings(screen);
    find_bar(screen);
    scroll_to_bar(screen);
    for (size_t i = 0; i < body_lines() && screen->first + i < top->count; i++) {
        const struct berth__top_row *row = &top->rows[screen->first + i];
        berth__top_line(row, line, sizeof(line));
        chtype bar = screen->first + i == screen->bar ? A_REVERSE : A_NORMAL;
        put(HEAD_LINES + i, attributes_of(screen, row) | bar, line);
    }
    if (top->count == 0) {
        put(HEAD_LINES, A_NORMAL, "no process runs on berth: `berth run COMMAND` starts one");
    }
}

/* ---- the other views ---- */

static void draw_details(struct screen *screen) {
    const struct berth__top_details *details = &screen->details;
    size_t lines = body_lines();
    size_t last = details->count > lines + HEAD_LINES ? details->count - lines - HEAD_LINES : 0;
    screen->detail_first = screen->detail_first < last ? screen->detail_first : last;
    for (size_t i = 0; i < lines + HEAD_LINES && screen->detail_first + i < details->count; i++) {
        const char *line = details->lines[screen->detail_first + i];
        bool heading = strncmp(line, "POOL ", 5) == 0 || strncmp(line, "ARENAS OF", 9) == 0 ||
                       strncmp(line, "CLASSES OF", 10) == 0;
        put(i, heading ? screen->head : screen->detail_first + i == 0 ? A_BOLD : A_NORMAL, line);
    }
}

static void draw_help(void) {
    static const char *const lines[] = {
        "berth top: all processes of yours that run on berth",
        "",
        "sort by      p PID      l LIVE, what the program holds at most   u USED of the limit",
        "             i IDLE, used and not live    m LIMIT    s USED%     a ALLOC/s   f FREE/s",
        "             t THR, threads with a cache  g AGE of the figures   c COMMAND",
        "             r the other way round",
        "select       up, down, j, k, Page Up, Page Down, Home, End",
        "look closer  Enter: pools, arenas, classes; Esc, Backspace: back",
        "delay        + longer, - shorter; Space: look now",
        "end          q",
        "",
        "USED% of 80 and more is yellow or bold, of 95 and more red or bold.",
        "No process is stopped. Figures are what each process wrote down last.",
    };
    for (size_t i = 0; i < BERTH_ARRAY_COUNT(lines); i++) {
        put(i, i == 0 ? A_BOLD : A_NORMAL, lines[i]);
    }
}

static void draw_keys(const struct screen *screen) {
    char line[LINE_MAX_CHARS];
    static const char *const keys[] = {
        [VIEW_TABLE] = "q end  h help  Enter look closer  r reverse  p l u i m s a f t g c sort",
        [VIEW_DETAILS] = "Esc back  up down scroll  q end",
        [VIEW_HELP] = "any key: back",
    };
    snprintf(line, sizeof(line), "%s   every %.1f s", keys[screen->view], screen->interval_s);
    if (LINES > 0) {
        put((size_t)LINES - 1, screen->head, line);
    }
}

static void draw(struct screen *screen) {
    erase();
    switch (screen->view) {
    case VIEW_TABLE: draw_table(screen); break;
    case VIEW_DETAILS: draw_details(screen); break;
    case VIEW_HELP: draw_help(); break;
    }
    draw_keys(screen);
    refresh();
}

/* ---- keys ---- */

static void move_bar(struct screen *screen, long by) {
    if (screen->view == VIEW_DETAILS) {
        long to = (long)screen->detail_first + by;
        screen->detail_first = to < 0 ? 0 : (size_t)to; /* drawing knows the end */
        return;
    }
    long count = (long)screen->top->count;
    long to = (long)screen->bar + by;
    to = to >= count ? count - 1 : to;
    screen->bar = to < 0 ? 0 : (size_t)to;
    screen->selected = count == 0 ? 0 : screen->top->rows[screen->bar].pid;
}

static void change_delay(struct screen *screen, double factor) {
    double wanted = screen->interval_s * factor;
    screen->interval_s = wanted < 0.1 ? 0.1 : wanted > 3600 ? 3600 : wanted;
}

static void look_closer(struct screen *screen) {
    if (screen->view == VIEW_TABLE && screen->top->count > 0) {
        screen->view = VIEW_DETAILS;
        screen->detail_first = 0;
        berth__top_details_read(&screen->details, screen->selected);
    }
}

/* False: the end. */
static bool take_key(struct screen *screen, int key) {
    enum { ESCAPE = 27, FAR = 1000000 };
    if (screen->view == VIEW_HELP && key != 'q' && key != KEY_RESIZE) {
        screen->view = VIEW_TABLE;
        return true;
    }
    switch (key) {
    case 'q': return false;
    case 'h':
    case '?': screen->view = VIEW_HELP; break;
    case KEY_UP:
    case 'k': move_bar(screen, -1); break;
    case KEY_DOWN:
    case 'j': move_bar(screen, 1); break;
    case KEY_PPAGE: move_bar(screen, -(long)body_lines()); break;
    case KEY_NPAGE: move_bar(screen, (long)body_lines()); break;
    case KEY_HOME: move_bar(screen, -FAR); break;
    case KEY_END: move_bar(screen, FAR); break;
    case '\n':
    case '\r':
    case KEY_ENTER: look_closer(screen); break;
    case ESCAPE:
    case KEY_BACKSPACE:
    case '\b':
    case 127: screen->view = VIEW_TABLE; break;
    case '+': change_delay(screen, 2); break;
    case '-': change_delay(screen, 0.5); break;
    case 'r': screen->top->reversed = !screen->top->reversed; break;
    default:
        if (screen->view == VIEW_TABLE && berth__top_column_of_key(key) != BERTH_TOP_COLUMN_COUNT) {
            screen->top->sort = berth__top_column_of_key(key);
        }
        break;
    }
    berth__top_sort(screen->top);
    return true;
}

/* ---- the loop ---- */

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void look(struct screen *screen) {
    (void)berth__top_sample(screen->top);
    if (screen->view == VIEW_DETAILS) {
        berth__top_details_read(&screen->details, screen->selected);
    }
}

static void loop(struct screen *screen) {
    look(screen);
    double next = now_s() + screen->interval_s;
    for (;;) {
        draw(screen);
        double wait_s = next - now_s();
        timeout(wait_s > 0 ? (int)(wait_s * 1000) + 1 : 0);
        int key = getch();
        if (key != ERR && !take_key(screen, key)) {
            return;
        }
        bool lost = key == ERR && wait_s > 0.01 && now_s() < next; /* the terminal has gone */
        if (lost && !isatty(STDIN_FILENO)) {
            return;
        }
        next = key == '+' || key == '-' ? now_s() + screen->interval_s : next;
        if (key == ' ' || now_s() >= next) {
            look(screen);
            next = now_s() + screen->interval_s;
        }
    }
}

static void choose_attributes(struct screen *screen) {
    const char *no_color = getenv("NO_COLOR");
    screen->head = A_REVERSE;
    screen->warn = screen->bad = A_BOLD;
    if (has_colors() && (no_color == NULL || *no_color == '\0') && start_color() == OK) {
        use_default_colors();
        init_pair(1, COLOR_YELLOW, -1);
        init_pair(2, COLOR_RED, -1);
        screen->warn = COLOR_PAIR(1);
        screen->bad = COLOR_PAIR(2) | A_BOLD;
    }
}

bool berth__top_screen(struct berth__top *top, double interval_s, char *why, size_t capacity) {
    const char *type = getenv("TERM");
    if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
        snprintf(why, capacity, "this is no terminal");
        return false;
    }
    SCREEN *terminal = newterm(NULL, stdout, stdin);
    if (terminal == NULL) {
        snprintf(why, capacity, "no terminal of the type \"%.40s\" is known (TERM)",
                 type == NULL ? "" : type);
        return false;
    }
    struct screen screen = {.top = top, .interval_s = interval_s};
    set_escdelay(50);
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    choose_attributes(&screen);
    loop(&screen);
    endwin();
    delscreen(terminal);
    berth__top_details_free(&screen.details);
    return true;
}

#else

bool berth__top_screen(struct berth__top *top, double interval_s, char *why, size_t capacity) {
    (void)top;
    (void)interval_s;
    snprintf(why, capacity, "this tool was built without ncurses");
    return false;
}

#endif
