// fbkit studio: what the page shows is the profile's state, looked at again and again. Other tabs and other programs
// may change it, too.

import * as api from "./api.js";
import { cardOf, openCard, showClasses, start as startClasses } from "./classes.js";
import { byId, element, say, tell } from "./dom.js";
import { showLearning, start as startLearning } from "./learning.js";
import { start as startTrying, tryAgain } from "./trying.js";

const MOST_CHIPS = 12;
const EVERY = 1000; // milliseconds
const WHILE_FITTING = 150;

let state = null;
let timer;
let looks = 0;
let shownTurn = 0;

// Look, and show what changed; with "again" show also what only this tab knows.
async function look(again) {
  const turn = ++looks;
  try {
    const seen = await api.state(state?.version ?? "");
    if (turn < shownTurn) return; // a later look was answered earlier
    shownTurn = turn;
    tell(byId("banner"), "");
    if (seen) show(seen);
    else if (again && state) show(state);
  } catch (error) {
    const gone = "the studio does not answer; start fbkit studio again, and open the address that it prints";
    tell(byId("banner"), error instanceof api.Refused ? error.message : gone);
  }
}

async function keepLooking() {
  clearTimeout(timer);
  if (!document.hidden) await look();
  clearTimeout(timer);
  timer = setTimeout(keepLooking, state?.fit.running ? WHILE_FITTING : EVERY);
}

function show(seen) {
  const before = state;
  state = seen;
  byId("bundle").textContent = state.bundle;
  byId("profile").textContent = state.profile;
  byId("profile").title = state.profile_path;
  byId("bundle").title = state.bundle_path;
  const shown = showClasses(state);
  showKnown(shown);
  showLearning(state);
  if (before && before.in_use !== state.in_use) tryAgain();
}

function showKnown(shown) {
  const known = state.classes.slice(0, state.shipped_classes).filter((name) => !shown.includes(name));
  const names = known.join("\n");
  if (byId("known").dataset.names === names) return;
  byId("known").dataset.names = names;
  byId("known").replaceChildren(...known.map((value) => element("option", { value })));
  const chips = state.shipped_classes <= MOST_CHIPS ? known : [];
  byId("known-chips").hidden = !chips.length;
  byId("chips").replaceChildren(
    ...chips.map((name) => {
      const chip = element("button", { type: "button" }, name);
      chip.addEventListener("click", () => addClass(name));
      return element("li", {}, chip);
    }),
  );
}

async function addClass(name) {
  const own = !state.classes.includes(name);
  try {
    if (own) await api.addClass(name);
  } catch (error) {
    say(error.message);
    return;
  }
  openCard(name);
  await look("again");
  byId("class-name").value = "";
  const card = cardOf(name);
  card?.querySelector(".choose").focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest" });
}

byId("new-class").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("class-name").value.trim();
  if (name && state) addClass(name);
  else byId("class-name").focus();
});
addEventListener("hashchange", () => location.reload());
document.addEventListener("visibilitychange", keepLooking);

startClasses(look, (name) => state.classes.indexOf(name) >= state.shipped_classes);
startLearning(async () => {
  await look();
  keepLooking();
});
startTrying();
keepLooking();
