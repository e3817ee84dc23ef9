// Where it lies: the map of all pages, as a picture that is asked for now and then. What is under the
// pointer is told where it is opened by itself.

const MAP_PAUSE_MS = 15000;
const MAP_UNASKED_BYTES = 512 * 2 ** 20; // a picture of more is drawn when somebody asks for it
const mapShown = {pid: null, at: 0, wanted: false, image: null, failed: false};

function mapImage(model) {
  const path = `/map.svg?pid=${model.pid}`;
  if (mapShown.pid !== model.pid) {
    Object.assign(mapShown, {pid: model.pid, at: 0, wanted: false, failed: false,
      image: el("img", {class: "map", alt: "the pages of all chunks and huge blocks"})});
    const {image} = mapShown;
    image.addEventListener("error", () => { mapShown.failed = mapShown.image === image; });
    image.addEventListener("load", () => { mapShown.failed = false; });
  }
  if (model.at - mapShown.at >= MAP_PAUSE_MS) {
    mapShown.at = model.at;
    mapShown.image.src = `${path}&at=${model.at}`;
  }
  return el("a", {href: path, target: "_blank", rel: "noopener"}, mapShown.image);
}

sections.push({
  id: "map",
  title: "Chunk map",
  draw(model, box) {
    const mapped = model.metrics.process.mapped_bytes;
    const open = el("a", {href: `/map.svg?pid=${model.pid}`, target: "_blank", rel: "noopener"},
      "open it");
    box.append(el("p", {class: "note"}, "Every page of every chunk; ", open,
      " to see what lies under the pointer.", mapShown.failed && mapShown.pid === model.pid
        ? " It could not be drawn." : null));
    if (mapped <= MAP_UNASKED_BYTES || (mapShown.wanted && mapShown.pid === model.pid)) {
      box.append(el("div", {class: "wide"}, mapImage(model)));
      return;
    }
    const button = el("button", {type: "button", class: "toggle"}, `Draw ${bytes(mapped)}`);
    button.addEventListener("click", () => {
      mapImage(model);
      mapShown.wanted = true;
      box.replaceChildren();
      this.draw(model, box);
    });
    box.append(button);
  },
});
