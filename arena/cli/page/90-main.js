// Asks the tool every two seconds, and draws what it says.

const PAUSE_MS = 2000;
const MINUTE_MS = 60000;
const SITES_PAUSE_MS = 10000; // the tool looks names up for them
const page = {pid: null, paused: false, tables: null, history: null, seen: [], timer: null,
  asking: false, again: false, sites: null,
  shown: null};

const byId = (id) => document.getElementById(id);

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, {cache: "no-store"});
  if (!answer.ok) {
    throw new Refused(`${path}: ${answer.status}`);
  }
  return answer.json();
}

function say(text, bad) {
  byId("status").textContent = text;
  byId("status").className = bad ? "bad" : "";
}

// ---- the processes ----

function choose(pid) {
  if (pid !== page.pid) {
    page.pid = pid;
    page.history = null;
    page.seen = [];
    history.replaceState(null, "", `#pid=${pid}`);
  }
  refresh();
}

function processButton(process) {
  const read = process.state === "read";
  const button = el("button", {type: "button", "aria-current": process.pid === page.pid,
    "data-pid": process.pid}, el("span", {class: "name"}, process.command),
  el("span", {class: "right"}, read ? bytes(process.limit_used_bytes) : ""),
  el("span", {class: "more"}, `${process.pid}`), el("span", {class: "more right"},
    !read ? "no figures" : process.limit_bytes === null ? "no limit"
      : `of ${bytes(process.limit_bytes)}`));
  button.addEventListener("click", () => choose(process.pid));
  return el("li", null, button);
}

function drawList(processes) {
  const listed = ["read", "pageless"].flatMap((wanted) =>
    processes.filter(({state}) => state === wanted));
  const unread = processes.filter(({state}) => state === "refused" || state === "damaged");
  const empty = el("li", {class: "note"}, "None runs on berth. Start one: berth run -- COMMAND");
  const focused = document.activeElement?.dataset?.pid;
  byId("processes").replaceChildren(...listed.length ? listed.map(processButton) : [empty]);
  if (focused) {
    byId("processes").querySelector(`[data-pid="${CSS.escape(focused)}"]`)?.focus();
  }
  const chosen = byId("processes").querySelector("[aria-current=true]");
  if (chosen && page.pid !== page.shown) { // not to scroll away under somebody's finger
    page.shown = page.pid;
    byId("processes").scrollTop = chosen.offsetTop;
  }
  byId("unread").hidden = unread.length === 0;
  byId("unread").querySelector("summary").textContent = `${unread.length} cannot be read`;
  byId("unread").querySelector("ul").replaceChildren(...unread.map((process) =>
    el("li", {"data-pid": process.pid}, el("b", null, `${process.command} `), process.why)));
}

// The one that was asked for, or the one with most memory.
function pick(processes) {
  if (page.pid === null) {
    const asked = /^#pid=(\d+)$/.exec(location.hash);
    const read = processes.filter(({state}) => state === "read");
    read.sort((a, b) => b.limit_used_bytes - a.limit_used_bytes);
    page.pid = asked ? Number(asked[1]) : read.length ? read[0].pid : null;
  }
}

// ---- the chosen one ----

async function askHistory(pid) {
  const known = page.history?.pid === pid ? page.history : {pid, points: []};
  const after = known.points.length ? known.points[known.points.length - 1][0] : 0;
  const more = await ask(`/json/history?pid=${pid}&after=${after}`);
  known.points = known.points.concat(more.points).slice(-more.points_max);
  known.series = more.series;
  return known;
}

async function askSites(pid) {
  if (page.sites?.pid !== pid || Date.now() - page.sites.at >= SITES_PAUSE_MS) {
    page.sites = {...await ask(`/json/sites?pid=${pid}`), at: Date.now()};
  }
  return page.sites;
}

// The figures of a minute ago, or the oldest that this page has seen.
function minuteAgo(metrics, at) {
  page.seen.push({at, process: metrics.process, pools: metrics.pools});
  while (page.seen.length > 1 && at - page.seen[1].at >= MINUTE_MS) {
    page.seen.shift();
  }
  return page.seen[0];
}

function drawSections(model) {
  const main = byId("main");
  if (!byId("heading")) {
    main.replaceChildren(el("div", {id: "heading"}), ...sections.map(({id, title}) =>
      el("section", {id, "aria-label": title}, el("h2", null, title), el("div", {class: "box"}))));
  }
  byId("heading").replaceChildren(el("strong", null, model.command),
    el("span", {class: "note"}, `process ${model.pid}, berth ${model.metrics.version}, figures ` +
      `${age(model.age_ms)} old`));
  if (model.left_out) {
    byId("heading").append(el("span", {class: "note bad"},
      `${model.left_out} pools, arenas or classes had no room on its stats page`));
  }
  for (const section of sections) {
    const box = main.querySelector(`#${section.id} .box`);
    const across = box.querySelector(".wide")?.scrollLeft || 0;
    box.replaceChildren();
    section.draw(model, box);
    const wide = box.querySelector(".wide");
    if (wide) {
      wide.scrollLeft = across;
    }
  }
}

function drawNote(text) {
  byId("main").replaceChildren(el("p", {class: "note", id: "nothing"}, text));
}

async function drawProcess(entry) {
  if (!entry) {
    drawNote(page.pid === null ? "There is no process to show."
      : `Process ${page.pid} has ended, or does not run on berth.`);
    return;
  }
  if (entry.state !== "read") {
    drawNote(entry.why);
    return;
  }
  const [answer, past, sites] = await Promise.all([ask(`/json?pid=${entry.pid}`),
    askHistory(entry.pid), askSites(entry.pid)]);
  const [process] = answer.processes;
  if (process.pid !== page.pid || process.state !== "read") {
    return; // another one was chosen meanwhile, or it cannot be read any more
  }
  page.history = past;
  const at = Date.now();
  drawSections({...process, at, tables: page.tables, points: past.points, series: past.series, sites,
    minute: minuteAgo(process.metrics, at)});
}

async function refresh() {
  page.again = page.asking; // another process was chosen while the answer is on its way
  if (!page.asking) {
    page.asking = true;
    try {
      page.tables = page.tables || await ask("/json/tables");
      const list = await ask("/json/list");
      byId("version").textContent = `berth ${list.version}`;
      pick(list.processes);
      drawList(list.processes);
      await drawProcess(list.processes.find(({pid}) => pid === page.pid));
      say(page.paused ? "paused" : `live, ${new Date().toLocaleTimeString()}`);
    } catch (error) {
      say(error instanceof Refused ? `no figures (${error.message})`
        : "berth export does not answer; trying again", true);
    }
    page.asking = false;
    clearTimeout(page.timer);
    if (page.again) {
      refresh();
    } else if (!page.paused && !document.hidden) {
      page.timer = setTimeout(refresh, PAUSE_MS);
    }
  }
}

byId("pause").addEventListener("click", () => {
  page.paused = !page.paused;
  byId("pause").textContent = page.paused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", page.paused);
  if (page.paused) {
    clearTimeout(page.timer);
    say("paused");
  } else {
    refresh();
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !page.paused) {
    refresh();
  }
});
addEventListener("hashchange", () => {
  page.pid = null;
  refresh();
});
refresh();
