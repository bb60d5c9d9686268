// Starts the page: its settings, the models of the server, one text or two to compare.

import { get, onTokenNeeded, ServerError } from "./api.js";
import { el } from "./dom.js";
import { setLanguage, t } from "./i18n.js";
import { Workspace } from "./workspace.js";

const byId = (id) => document.getElementById(id);
const workspaces = [];
let server = null;

function setting(name, fallback) {
  return localStorage.getItem(`seq2seq_kit ${name}`) ?? fallback;
}

function keep(name, value) {
  localStorage.setItem(`seq2seq_kit ${name}`, value);
}

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

/** Shows a problem above the texts until it is dismissed. */
export function showProblem(error) {
  const is_known = error instanceof ServerError && error.message;
  const text = is_known
    ? [t("server_says"), el("span", { lang: "en" }, error.message)]
    : [error instanceof ServerError ? t("no_answer") : String(error)];
  const dismiss = el("button", { type: "button", onclick: hideProblem }, t("dismiss"));
  byId("problem").replaceChildren(el("p", {}, ...text), dismiss);
  byId("problem").hidden = false;
}

function hideProblem() {
  byId("problem").hidden = true;
}

let asked = null;

/** Asks for the token in a dialog; requests that need it at the same time share the answer. */
function askForToken(was_wrong) {
  asked ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    byId("token-wrong").textContent = was_wrong ? t("token_wrong") : "";
    byId("token").value = "";
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        asked = null;
        resolve(byId("token").value);
      },
      { once: true },
    );
    dialog.addEventListener("cancel", () => (byId("token").value = ""), { once: true });
    dialog.showModal();
  });
  return asked;
}

function addWorkspace(values) {
  const workspace = new Workspace(workspaces.length + 1, server, values, {
    problem: showProblem,
    solved: hideProblem,
    changed: compareOutputs,
  });
  workspaces.push(workspace);
  byId("workspaces").append(workspace.element);
  workspace.start();
}

/** Marks the words that only one of two outputs has. */
function compareOutputs() {
  const [first, second] = workspaces;
  first.compareWith(second ? second.output : null);
  second?.compareWith(first.output);
}

function setCompare(is_on) {
  byId("compare").setAttribute("aria-pressed", String(is_on));
  byId("workspaces").classList.toggle("two", is_on);
  if (is_on && workspaces.length === 1) {
    const first = workspaces[0];
    const names = server.models.map((model) => model.name);
    const other = names[(names.indexOf(first.model.name) + 1) % names.length];
    const is_alike = first.model.task === server.models.find((m) => m.name === other).task;
    addWorkspace({ model: is_alike ? other : first.model.name, text: first.text });
  } else if (!is_on && workspaces.length === 2) {
    const second = workspaces.pop();
    second.close();
    second.element.remove();
  }
  compareOutputs();
}

async function start() {
  const preferred = navigator.language.startsWith("zh") ? "zh" : "en";
  byId("language").value = setting("language", preferred);
  byId("theme").value = setting("theme", "auto");
  setTheme(byId("theme").value);
  setLanguage(byId("language").value);
  byId("language").addEventListener("change", (event) => {
    keep("language", event.target.value);
    setLanguage(event.target.value);
  });
  byId("theme").addEventListener("change", (event) => {
    keep("theme", event.target.value);
    setTheme(event.target.value);
  });
  byId("compare").addEventListener("click", () => setCompare(workspaces.length === 1));
  onTokenNeeded(askForToken);
  try {
    server = await get("inspect");
  } catch (error) {
    showProblem(error);
    return;
  }
  addWorkspace({ model: server.models[0].name, text: null });
}

start();
