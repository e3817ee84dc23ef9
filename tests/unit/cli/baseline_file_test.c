/* Baselines: their files are read like pages of other processes, whatever they hold. */
#include "own_page.h"

#include "cli/baseline_file.h"

#include <berth/berth.h>

#include <string.h>
#include <sys/stat.h>

static struct berth__process self; /* with its own page */
static char folder[] = "/tmp/berth-baseline-XXXXXX";
static char file[64];
static char *sound; /* the bytes of a file */
static size_t sound_bytes;

static int start_of_group(void **state) {
    (void)state;
    unit_read_own_page(&self);
    size_t bytes = self.stats.page_bytes;
    memcpy(self.command, "some\033name", 10);
    UNIT_CHECK(mkdtemp(folder) != NULL);
    snprintf(file, sizeof(file), "%s/file", folder);
    struct berth__baseline baseline;
    UNIT_CHECK(berth__baseline_write(&baseline, &self, 1234, file));
    FILE *from = fopen(file, "r");
    sound = malloc(bytes * 2);
    sound_bytes = fread(sound, 1, bytes * 2, from);
    fclose(from);
    return 0;
}

static int end_of_group(void **state) {
    (void)state;
    unlink(file);
    rmdir(folder);
    free(sound);
    return 0;
}

/* A copy of just that length, for sanitizers. */
static bool understand(const char *bytes, size_t count) {
    struct berth__baseline baseline;
    char *copy = malloc(count + 1);
    memcpy(copy, bytes, count);
    char *exact = realloc(copy, count + (count == 0));
    bool understood = berth__baseline_understand(&baseline, exact, count);
    UNIT_CHECK(understood == (baseline.why[0] == '\0'));
    for (const char *at = baseline.head.command; understood && *at != '\0'; at++) {
        UNIT_CHECK(*at >= ' ' && *at <= '~');
    }
    berth__baseline_free(&baseline);
    free(exact);
    return understood;
}

static void a_baseline_says_what_the_page_said(void **state) {
    /* Every difference that is shown would be wrong. */
    (void)state;
    struct berth__baseline baseline;
    assert_true(berth__baseline_read(&baseline, file));
    assert_int_equal(baseline.head.reserved_bytes, 1234);
    assert_string_equal(baseline.head.command, "some?name");
    assert_int_equal(berth__stats_figure(&baseline.stats, "metadata_bytes", 0),
                     berth__stats_figure(&self.stats, "metadata_bytes", 1));
    assert_true(berth__baseline_is_of(&baseline, getpid()));
    struct stat found;
    assert_int_equal(stat(file, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    berth__baseline_free(&baseline);
}

static void another_process_of_the_number_is_told_apart(void **state) {
    /* A server that was restarted under its old number would be compared with its predecessor. */
    (void)state;
    struct berth__baseline baseline;
    assert_true(berth__baseline_read(&baseline, file));
    assert_false(berth__baseline_is_of(&baseline, getppid()));
    assert_non_null(strstr(baseline.why, "is of process"));
    baseline.head.started++;
    assert_false(berth__baseline_is_of(&baseline, getpid()));
    assert_non_null(strstr(baseline.why, "earlier process"));
    baseline.head.started--;
    baseline.head.boot[0] = '-';
    assert_false(berth__baseline_is_of(&baseline, getpid()));
    berth__baseline_free(&baseline);
}

static void faults_are_told_apart(void **state) {
    /* A user would look for the fault in the wrong place. */
    (void)state;
    struct berth__baseline baseline;
    char *bytes = malloc(sound_bytes);
    memcpy(bytes, sound, sound_bytes);
    bytes[0]++;
    assert_false(berth__baseline_understand(&baseline, bytes, sound_bytes));
    assert_non_null(strstr(baseline.why, "no baseline"));
    bytes[0]--;
    bytes[8]++; /* version */
    assert_false(berth__baseline_understand(&baseline, bytes, sound_bytes));
    assert_non_null(strstr(baseline.why, "version 2"));
    bytes[8]--;
    bytes[sizeof(struct berth__baseline_head) + 8]++; /* of the page */
    assert_false(berth__baseline_understand(&baseline, bytes, sound_bytes));
    assert_non_null(strstr(baseline.why, "stats page of version 2"));
    free(bytes);
    assert_false(berth__baseline_read(&baseline, "/nonexistent/file"));
    assert_true(baseline.missing);
    berth__baseline_free(&baseline);
}

static void files_that_end_anywhere_or_were_changed_harm_nobody(void **state) {
    /* Who hands a file to root's tool could take it over. */
    (void)state;
    enum { ROUNDS = 3000 };
    struct unit_random random = {7};
    char *bytes = malloc(sound_bytes);
    unsigned understood = 0;
    for (size_t count = 0; count < sound_bytes; count += count < 512 ? 1 : 97) {
        assert_false(understand(sound, count));
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        memcpy(bytes, sound, sound_bytes);
        for (size_t changes = 1 + unit_random_below(&random, 3); changes > 0; changes--) {
            uint64_t word = unit_random_next(&random) >> unit_random_below(&random, 64);
            size_t most = unit_random_below(&random, 2) == 0 ? 512 : sound_bytes;
            memcpy(bytes + unit_random_below(&random, most - 8), &word, 8);
        }
        understood += understand(bytes, sound_bytes);
    }
    assert_true(understood > 0);
    free(bytes);
}

static void a_folder_of_others_is_refused(void **state) {
    /* In /tmp, another user could lead root's files where he likes. */
    (void)state;
    struct berth__baseline baseline;
    char path[BERTH_PATH_BYTES];
    char mine[80];
    setenv("XDG_RUNTIME_DIR", folder, 1);
    snprintf(mine, sizeof(mine), "%s/berth", folder);
    assert_true(berth__baseline_path(&baseline, 7, path, sizeof(path)));
    assert_non_null(strstr(path, "/berth/7.baseline"));
    assert_int_equal(chmod(mine, 0777), 0);
    assert_false(berth__baseline_path(&baseline, 7, path, sizeof(path)));
    rmdir(mine);
    assert_int_equal(symlink("/tmp", mine), 0);
    assert_false(berth__baseline_path(&baseline, 7, path, sizeof(path)));
    unlink(mine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_baseline_says_what_the_page_said),
        cmocka_unit_test(another_process_of_the_number_is_told_apart),
        cmocka_unit_test(faults_are_told_apart),
        cmocka_unit_test(files_that_end_anywhere_or_were_changed_harm_nobody),
        cmocka_unit_test(a_folder_of_others_is_refused),
    };
    return cmocka_run_group_tests(tests, start_of_group, end_of_group) == 0 ? 0 : 1;
}
