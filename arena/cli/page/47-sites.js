// The calls that hold most memory, where samples are taken.

function siteRow(site, total) {
  const place = site.file === null ? "" : `${site.file.split("/").pop()}:${site.line}`;
  const amount = (name, format) => el("td", {"data-metric": name, "data-value": site[name]},
    format(site[name]));
  return el("tr", null, el("td", {title: site.function}, site.function),
    el("td", {title: site.file}, place), el("td", null, site.library), amount("bytes", bytes),
    el("td", null, `${(100 * site.bytes / Math.max(1, total)).toFixed(1)} %`),
    amount("blocks", count), el("td", null, site.bytes > 0 ? age(site.oldest_ms) : ""),
    amount("allocated_bytes", bytes));
}

sections.push({
  id: "sites",
  title: "Top sites",
  draw(model, box) {
    const {sites, state, why} = model.sites;
    const switchOn = `berth ctl ${model.pid} sample=512K`;
    if (state !== "read") {
      box.append(el("p", {class: "note"}, state === "none"
        ? `No samples are taken. Switch them on: ${switchOn}` : why));
      return;
    }
    const interval = model.sites.interval_bytes;
    const left = model.sites.left_out;
    box.append(el("p", {class: "note"}, interval > 0
      ? `Estimates, from samples every ${bytes(interval)}. `
      : `Estimates, from samples that were taken before. Switch them on again: ${switchOn}. `,
    left > 0 ? `${count(left)} samples found no room: the figures are low. ` : null,
    el("a", {href: `/debug/pprof/heap?pid=${model.pid}`}, "for pprof")));
    const columns = [{name: "call"}, {name: "line"}, {name: "library"},
      {name: "held", help: "Bytes held now, at block sizes."}, {name: "share"},
      {name: "blocks", help: "Blocks held now."},
      {name: "oldest", help: "Age of the oldest sample that is held."},
      {name: "allocated", help: "Bytes since samples are taken, freed since or not."}];
    box.append(table("top sites", columns,
      sites.map((site) => siteRow(site, model.sites.bytes))));
  },
});
