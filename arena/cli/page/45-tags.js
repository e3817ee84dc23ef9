// What is accounted to tags, where the program has any.

sections.push({
  id: "tags",
  title: "Tags",
  draw(model, box) {
    const tags = (model.metrics.tags || []).slice().sort((a, b) =>
      b.live_high_bytes - a.live_high_bytes);
    if (tags.length === 0) {
      box.append(el("p", {class: "note"}, "The program has none (berth_tag_push)."));
      return;
    }
    const columns = ["live_high_bytes", "peak_bytes", "capacity_bytes", "count", "allocations",
      "frees", "failures"];
    const head = columns.map((name) => ({help: helpOf(model, "tag", name),
      name: name === "live_high_bytes" ? "held" : name.replace("_bytes", "")}));
    box.append(table("tags", [{name: "tag"}, ...head], tags.map((tag) =>
      el("tr", {"data-tag": tag.name}, el("td", null, tag.name), ...columns.map((name) =>
        el("td", {"data-metric": name, "data-value": tag[name]},
          (name.endsWith("_bytes") ? bytes : count)(tag[name] ?? null)))))));
  },
});
