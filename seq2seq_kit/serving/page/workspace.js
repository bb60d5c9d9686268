// One text: its model, what is typed, what is written, and the views of it.

import { post, stream } from "./api.js";
import { AttentionView } from "./attention.js";
import { BeamView } from "./beam.js";
import { BestView } from "./best.js";
import { showChanged } from "./changed.js";
import { debounced, el, languageOf, newId, roving } from "./dom.js";
import { GatesView } from "./gates.js";
import { onLanguage, t } from "./i18n.js";
import { SimilarView } from "./similar.js";
import { Words } from "./words.js";

const EXAMPLES = {
  de: "Das Wetter ist heute schön.",
  en: "The weather is beautiful today.",
  zh: "春天到了，",
};
const VIEWS = [BestView, BeamView, AttentionView, GatesView, SimilarView];
const PAUSE = 350;

export class Workspace {
  /**
   * @param {number} number 1 or 2.
   * @param {object} server What `GET /inspect` answered.
   * @param {object} values The model's name, and the text or null for an example.
   * @param {object} events `problem(error)`, `solved()` and `changed()`.
   */
  constructor(number, server, values, events) {
    this.number = number;
    this.server = server;
    this.events = events;
    this.model = server.models.find((model) => model.name === values.model);
    this.text = values.text ?? example(this.model);
    this.prefix = "";
    this.output = "";
    this.seed = null;
    this.other = null;
    this.abort = new AbortController();
    this.inspected = new AbortController();
    this.lookSoon = debounced(PAUSE, () => this.look());
    this.build();
    this.unlisten = onLanguage(() => this.relabel());
  }

  build() {
    const heading = newId("heading");
    const input = newId("input");
    const help = newId("help");
    this.heading = el("h2", { id: heading });
    this.select = el(
      "select",
      { onchange: () => this.chooseModel(this.select.value) },
      this.server.models.map((model) => el("option", { value: model.name }, model.name)),
    );
    this.select.value = this.model.name;
    this.inputLabel = el("label", { for: input });
    this.input = el("textarea", {
      id: input,
      rows: 4,
      spellcheck: "false",
      maxlength: this.server.max_characters,
      oninput: (event) => this.typed(event),
      oncompositionend: (event) => this.typed(event),
    });
    this.input.value = this.text;
    this.note = el("p", { class: "note", hidden: true, "data-text": "export_note" });
    this.outputBox = el("div", {
      class: "output",
      role: "log",
      "aria-live": "polite",
      tabindex: -1, // Has the focus while a forced word is written.
      "aria-describedby": help,
      "data-label": "output",
    });
    this.status = el("span", { class: "status" });
    this.stop = button("stop", () => this.halt());
    this.again = button("again", () => this.writeAnother());
    this.forced = el("p", { class: "forced", hidden: true });
    this.words = new Words(this);
    this.tabs = el("div", { class: "tabs", role: "tablist", "data-label": "views" });
    this.panels = el("div", { class: "panels" });
    this.help = el("p", { id: help, class: "hint", "data-text": "output_help" });
    this.element = el(
      "section",
      { class: "workspace", "aria-labelledby": heading },
      el("div", { class: "bar" }, this.heading,
        el("label", {}, el("span", { "data-text": "model" }), " ", this.select)),
      this.note,
      el("div", { class: "writer" },
        el("div", { class: "card" }, this.inputLabel, this.input),
        el("div", { class: "card" },
          el("div", { class: "card-head" }, el("h3", { "data-text": "output" }), this.status,
            this.stop, this.again),
          this.outputBox, this.forced, this.words.choices, this.words.legend, this.help)),
      el("div", { class: "card views" }, this.tabs, this.panels),
    );
    this.buildViews();
  }

  buildViews() {
    this.views = VIEWS.map((View) => new View(this));
    this.view = this.views[0];
    for (const view of this.views) {
      const tab = newId("tab");
      view.tab = el("button", {
        type: "button",
        role: "tab",
        id: tab,
        "data-text": view.title,
        "aria-controls": view.element.id = newId("panel"),
        onclick: () => this.choose(view),
      });
      view.element.setAttribute("role", "tabpanel");
      view.element.setAttribute("aria-labelledby", tab);
      this.tabs.append(view.tab);
      this.panels.append(view.element);
    }
    roving(this.tabs, "[role=tab]");
  }

  /** Shows the text, and writes for the first time. */
  start() {
    this.adapt();
    this.relabel();
    this.choose(this.view);
    this.write();
  }

  get isRun() {
    return this.model.kind === "run";
  }

  /** What every request about the present output says. */
  get body() {
    return { model: this.model.name, text: this.text, output: this.output };
  }

  /** The options of the search that this text has beside the model's own. */
  get options() {
    return this.seed === null ? {} : { seed: this.seed };
  }

  relabel() {
    this.heading.textContent = t("workspace", { number: this.number });
    const is_continuation = this.model.task === "continuation";
    this.inputLabel.textContent = t(is_continuation ? "input_continuation" : "input_translation");
    for (const element of this.element.querySelectorAll("[data-text]")) {
      element.textContent = t(element.dataset.text);
    }
    for (const element of this.element.querySelectorAll("[data-label]")) {
      element.setAttribute("aria-label", t(element.dataset.label));
    }
    this.words.relabel();
    this.showForced();
    for (const view of this.views) view.relabel();
  }

  /** Shows only what the model can do. */
  adapt() {
    this.note.hidden = this.model.can_look_inside;
    this.again.hidden = !this.model.sample;
    this.help.hidden = !this.model.can_look_inside;
    for (const view of this.views) view.tab.hidden = !view.suits(this.model);
    if (this.view.tab.hidden) this.choose(this.views[0]);
    this.input.lang = languageOf(this.text) ?? "";
  }

  choose(view) {
    this.view = view;
    for (const one of this.views) {
      one.element.hidden = one !== view;
      one.tab.setAttribute("aria-selected", String(one === view));
      one.tab.tabIndex = one === view ? 0 : -1;
    }
    view.show();
  }

  chooseModel(name) {
    const was_example = this.text === example(this.model);
    this.model = this.server.models.find((model) => model.name === name);
    if (was_example) this.input.value = this.text = example(this.model);
    this.seed = null;
    this.prefix = "";
    this.forget();
    this.adapt();
    this.relabel();
    this.write();
  }

  typed(event) {
    // An input method's half-written word is not text yet; its end comes as an event of its own.
    if (event.isComposing || this.input.value === this.text) return;
    this.text = this.input.value;
    this.input.lang = languageOf(this.text) ?? "";
    this.prefix = "";
    this.forget();
    this.write();
  }

  /** Drops what was found for an input that is no longer there. */
  forget() {
    for (const view of this.views) view.forget();
  }

  halt() {
    this.abort.abort();
    this.words.finish();
    this.say(t("stopped"));
  }

  writeAnother() {
    this.seed = (this.seed ?? this.model.seed) + 1;
    this.forget();
    this.write();
  }

  /** Makes the output begin with a text, and lets the model go on. */
  force(prefix) {
    this.prefix = prefix;
    this.write();
  }

  showForced() {
    this.forced.hidden = !this.prefix;
    this.forced.replaceChildren(
      t("forced", { text: this.prefix }),
      " ",
      el("button", { type: "button", class: "small", onclick: () => this.force("") }, t("release")),
    );
  }

  say(text) {
    this.status.textContent = text;
  }

  /** Writes the output for the present input and prefix. */
  async write() {
    this.abort.abort();
    this.inspected.abort();
    this.lookSoon.cancel();
    const abort = (this.abort = new AbortController());
    const started = performance.now();
    const passed = () => Math.round(performance.now() - started);
    this.words.begin(this.prefix);
    this.showForced();
    this.say(t("writing"));
    this.stop.hidden = false;
    try {
      const output = await this.search(abort.signal, () => {
        if (!this.timed) this.say(t("first_token", { ms: (this.timed = passed()) }));
      });
      if (abort.signal.aborted) return;
      if (!this.timed) this.say(t("whole", { ms: passed() }));
      this.events.solved();
      this.showOutput(output);
    } catch (error) {
      if (error.name === "AbortError" || abort.signal.aborted) return;
      this.say("");
      this.words.finish();
      this.events.problem(error);
    } finally {
      if (this.abort === abort) this.stop.hidden = true;
    }
  }

  /** Returns the whole output; its pieces are shown as they come, if the model can stream. */
  async search(signal, onFirst) {
    this.timed = 0;
    const { text, prefix } = this;
    const request = { model: this.model.name, ...this.options };
    if (this.isRun) {
      const body = { ...request, texts: [text] };
      if (prefix) body.prefixes = [prefix];
      let shown = prefix.length; // A forced beginning is a part of the output, and shown already.
      return stream(
        body,
        (piece) => {
          const rest = piece.slice(shown);
          shown -= piece.length - rest.length;
          if (!rest) return;
          onFirst();
          this.words.add(rest);
        },
        signal,
      );
    }
    if (prefix) {
      // The search of an export has no prefixes; that of the network inside it has.
      const { text: output } = await post("inspect/write", { ...request, text, prefix }, signal);
      return output;
    }
    const { hypotheses } = await post("generate", { ...request, texts: [text] }, signal);
    return hypotheses[0][0].text;
  }

  /** Shows a text as the output: what was written, or one of the best outputs. */
  showOutput(output) {
    this.output = output;
    this.words.finish(output);
    this.events.changed();
    this.lookSoon();
  }

  /** Looks inside the model, once nothing is being typed. */
  async look() {
    this.inspected.abort();
    const inspected = (this.inspected = new AbortController());
    try {
      if (this.model.can_look_inside && this.output) {
        const { words } = await post("inspect/words", this.body, inspected.signal);
        if (inspected.signal.aborted) return;
        this.words.show(words);
        this.events.changed();
      }
      this.view.show();
    } catch (error) {
      if (error.name !== "AbortError") this.events.problem(error);
    }
  }

  /** Returns what happened in the model while it wrote the present output; asks only once. */
  trace() {
    const key = JSON.stringify(this.body);
    if (this.traced?.key !== key) {
      this.traced = { key, answer: post("inspect/trace", this.body, this.inspected.signal) };
      this.traced.answer.catch(() => (this.traced = null));
    }
    return this.traced.answer;
  }

  /** Shows what the model writes when it is changed. */
  async writeChanged(changes, box) {
    this.changing?.abort();
    const { signal } = (this.changing = new AbortController());
    box.hidden = false;
    box.textContent = t("thinking");
    const { model, text, prefix, output } = this;
    try {
      const body = { model: model.name, text, prefix, ...changes, ...this.options };
      const changed = await post("inspect/write", body, signal);
      if (output === this.output) showChanged(box, output, changed.text);
    } catch (error) {
      if (error.name === "AbortError") return;
      box.hidden = true;
      this.events.problem(error);
    }
  }

  /** Ends everything that is under way, before the text is removed. */
  close() {
    for (const one of [this.abort, this.inspected, this.changing]) one?.abort();
    this.lookSoon.cancel();
    this.unlisten();
  }

  /** Marks the words that another output does not have; null marks none. */
  compareWith(output) {
    this.other = output;
    this.words.markDifferences(output);
  }
}

function button(text, onclick) {
  return el("button", { type: "button", class: "small", "data-text": text, hidden: true, onclick });
}

/** Returns a text that a model can begin with. */
function example(model) {
  const languages = model.name.match(/^(de|en|zh)\b/);
  if (model.name === "en-g2p") return "sequence";
  return languages ? EXAMPLES[languages[1]] : "";
}
