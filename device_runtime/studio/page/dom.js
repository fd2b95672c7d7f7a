// Small helpers for what is on the page.

export const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const counted = (count, what) => `${count} ${what}${count === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;

export const percent = (value) => `${value < 99.95 && value > 0 ? value.toFixed(1) : value.toFixed(0)}%`;

// Show an error in its place, or nothing there.
export function tell(place, message) {
  place.textContent = message;
  place.hidden = !message;
}

// A button that was switched off in earnest would lose the focus.
export const setOff = (button, off) => button.setAttribute("aria-disabled", String(off));

export const isOff = (button) => button.getAttribute("aria-disabled") === "true";

let fading;

// Say in passing what happened.
export function say(message) {
  byId("status").textContent = message;
  clearTimeout(fading);
  fading = setTimeout(() => (byId("status").textContent = ""), 6000);
}

// A bar for each [name, percent].
export function bars(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach(([name, value, first], place) => {
    let row = list.children[place];
    if (!row) {
      row = element("li", {}, element("span"), element("b"), element("span", { className: "bar" }, element("i")));
      list.append(row);
    }
    row.className = first ? "first" : "";
    row.children[0].textContent = name;
    row.children[1].textContent = percent(value);
    row.children[2].firstChild.style.width = `${value}%`;
  });
}

// Files that are dropped on `zone` go to `take`.
export function dropZone(zone, take) {
  let depth = 0;
  const over = (change) => {
    depth = Math.max(depth + change, 0);
    zone.classList.toggle("over", depth > 0);
  };
  zone.addEventListener("dragenter", () => over(1));
  zone.addEventListener("dragleave", () => over(-1));
  zone.addEventListener("dragover", (event) => event.preventDefault());
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  });
}

// Ask before something that cannot be undone.
export function ask(title, text) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

byId("ask-no").addEventListener("click", () => byId("ask").close("no"));
byId("ask-yes").addEventListener("click", () => byId("ask").close("yes"));

// Outside of a zone a dropped file would replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
