// Personalizing: what there is to learn from, the curve, the verdict, the head in use, and what happened.

import * as api from "./api.js";
import { drawCurve } from "./curve.js";
import { bars, byId, counted, isOff, say, setOff } from "./dom.js";

const HEADS = { shipped: "The head as shipped", present: "The head in use before", candidate: "The new head" };

let state = null;
let told = 0; // the latest fit that this tab has told of

export function start(changed) {
  const act = (action) => async (event) => {
    if (isOff(event.currentTarget)) return;
    try {
      await action();
    } catch (error) {
      say(error.message);
    }
    await changed();
  };
  byId("fit").addEventListener("click", act(api.fit));
  byId("roll-back").addEventListener("click", act(async () => {
    await api.rollBack(state.in_use);
    say("the head before is in use again");
  }));
}

export function showLearning(seen) {
  const before = state;
  state = seen;
  showReady();
  showVerdict();
  showCurve();
  byId("in-use").textContent = headName(state.in_use);
  const back = byId("roll-back");
  setOff(back, !state.in_use || state.fit.running);
  back.title = state.in_use ? `To: ${headName(state.before)}` : "There is no head before it";
  showEvents();
  if (before && !state.fit.running && state.fit.number > told) {
    say(state.fit.error ?? byId("verdict-title").textContent);
    byId("verdict").scrollIntoView({ block: "nearest" });
  }
  told = state.fit.running ? told : state.fit.number;
}

function headName(file) {
  const head = state.heads.find((each) => each.file === file);
  return head ? `Your head, fitted to ${counted(head.pictures, "picture")}` : "The head as shipped";
}

function showReady() {
  const classes = new Set(state.pictures.map((picture) => picture.class));
  const { running } = state.fit;
  const words = [`${counted(state.pictures.length, "picture")} of ${counted(classes.size, "class")}.`];
  if (!state.pictures.length) words[0] = "Add some pictures first: ten or more, of two classes or more, are a good start.";
  else if (state.unlearned) words.push("Some of them are new.");
  else words.push("The head knows them all.");
  byId("ready").textContent = running ? "Fitting the head to your pictures…" : words.join(" ");
  setOff(byId("fit"), running || !state.pictures.length);
  byId("fit").textContent = running ? "Personalizing…" : "Personalize";
}

function showVerdict() {
  const { fit } = state;
  const verdict = state.verdict;
  byId("verdict").hidden = fit.running || !(verdict || fit.error);
  if (byId("verdict").hidden) return;
  const title = byId("verdict-title");
  const back = state.events.findLast((event) => ["fit", "roll back"].includes(event.event))?.event === "roll back";
  const judged = !fit.error && !back;
  title.className = judged && verdict.chosen === "candidate" && verdict.verified ? "good" : "";
  if (fit.error) title.textContent = "It did not work";
  else title.textContent = back ? "Rolled back" : headline(verdict);
  if (fit.error) byId("verdict-reason").textContent = sentence(fit.error);
  else byId("verdict-reason").textContent = back ? "A head from before is in use again." : why(verdict);
  const correct = judged && isOfThisFit() ? fit.result.verdict.correct : {};
  byId("held-out").hidden = !Object.keys(correct).length;
  bars(byId("accuracy"), Object.keys(HEADS).filter((name) => name in correct).map((name) => {
    return [HEADS[name], correct[name], name === "candidate"];
  }));
  const losses = (judged && verdict.losses) || {};
  const words = Object.keys(HEADS).filter((name) => name in losses).map((name) => {
    return `${HEADS[name].toLowerCase()} ${losses[name].toFixed(3)}`;
  });
  byId("losses").textContent = words.length ? `Decided by the loss on them: ${words.join(", ")}.` : "";
}

// Whether the profile's last verdict is that of this server's last fit, of which more is known than the profile holds.
function isOfThisFit() {
  const own = state.fit.result?.verdict;
  return own?.reason === state.verdict?.reason && own?.losses.candidate === state.verdict?.losses?.candidate;
}

function headline(verdict) {
  if (verdict.chosen === "candidate") return verdict.verified ? "The new head was taken" : "The new head was taken, not judged yet";
  if (verdict.chosen === "present") return "The head in use stays";
  return "The head as shipped is used";
}

function why(verdict) {
  const more = verdict.verified === false && verdict.chosen === "candidate" ? " It is judged when you add more." : "";
  return sentence(verdict.reason ?? "") + more;
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + "." : "");

function showCurve() {
  const { curve, result } = state.fit;
  byId("curve").hidden = state.fit.running ? curve.length < 2 : !result || !isOfThisFit();
  if (byId("curve").hidden) return;
  drawCurve(byId("plot"), curve);
  const seconds = result ? Object.values(result.seconds).reduce((sum, value) => sum + value, 0) : 0;
  byId("curve-words").textContent = result
    ? `${result.loss_before.toFixed(3)} → ${result.loss_after.toFixed(3)} in ${counted(curve.at(-1)[0], "step")}; ${inSeconds(seconds)} with judging.`
    : "";
}

const inSeconds = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`);

function showEvents() {
  byId("history").hidden = !state.events.length;
  byId("events").replaceChildren(
    ...state.events.toReversed().map((event) => {
      const when = document.createElement("time");
      when.textContent = new Date(event.time * 1000).toLocaleString();
      const row = document.createElement("li");
      row.append(when, inWords(event));
      return row;
    }),
  );
}

function inWords(event) {
  const ways = {
    add: () => `added ${Object.entries(event.pictures ?? {}).map(([name, count]) => `${count} of ${name}`).join(", ")}`,
    fit: () => `personalized: ${event.reason}`,
    remove: () => `forgot ${counted(event.pictures ?? 0, "picture")}`,
    "roll back": () => `rolled back to ${event.head ? "a personal head" : "the head as shipped"}`,
    classes: () => `added the class ${(event.added ?? []).join(", ")}`,
    limits: () => "changed what is remembered",
  };
  return (ways[event.event] ?? (() => event.event))();
}
