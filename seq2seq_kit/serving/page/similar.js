// Training lines in which the model was in a similar state.

import { post, ServerError } from "./api.js";
import { el, languageOf } from "./dom.js";
import { number, t } from "./i18n.js";
import { TracedView } from "./traced.js";

export class SimilarView extends TracedView {
  title = "tab_similar";

  constructor(workspace) {
    super(workspace);
    this.found = null;
    this.state = el("select", { onchange: () => this.fillWords() });
    this.word = el("select", {});
    this.button = el("button", { type: "button", class: "main", "data-text": "similar_find", onclick: () => this.find() });
    this.message = el("p", { class: "hint", role: "status" });
    this.list = el("ol", { class: "similar" });
    this.element = el(
      "div",
      {},
      el("p", { class: "hint", "data-text": "similar_help" }),
      el("div", { class: "bar" },
        el("label", {}, el("span", { "data-text": "similar_state" }), " ", this.state),
        el("label", {}, el("span", { "data-text": "similar_word" }), " ", this.word),
        this.button),
      this.message,
      this.list,
    );
  }

  suits(model) {
    return model.can_look_inside;
  }

  forget() {
    this.found = null;
    this.trace = null;
  }

  relabel() {
    const chosen = this.state.value || "decoder";
    const { model } = this.workspace;
    const states = !model.has_encoder ? ["decoder"] : ["decoder", "encoder", ...(model.has_attention ? ["context"] : [])];
    this.state.replaceChildren(...states.map((name) => el("option", { value: name }, t(`state_${name}`))));
    this.state.value = states.includes(chosen) ? chosen : "decoder";
    super.relabel();
  }

  take(trace) {
    super.take(trace);
    this.fillWords();
  }

  fillWords() {
    if (!this.trace) return;
    const names = this.state.value === "encoder" ? this.trace.source_tokens : this.trace.target_tokens;
    this.word.replaceChildren(
      ...names.map((name, place) => el("option", { value: place }, `${place + 1} ${name.replace(/\u2581/g, " ").trim() || "␣"}`)),
    );
    this.word.value = String(names.length - 1);
  }

  async find() {
    const { workspace } = this;
    this.message.textContent = t("thinking");
    this.found = null;
    this.draw();
    try {
      const body = { ...workspace.body, state: this.state.value, position: Number(this.word.value) };
      this.found = (await post("inspect/similar", body)).neighbors;
      this.message.textContent = "";
    } catch (error) {
      // A packaged model has no training lines beside it, which is no fault.
      const text = error instanceof ServerError && error.message ? error.message : t("no_answer");
      this.message.replaceChildren(el("span", { lang: "en" }, text));
    }
    this.draw();
  }

  draw() {
    this.button.disabled = !this.workspace.output;
    this.list.replaceChildren(
      ...(this.found ?? []).map((one) =>
        el("li", {},
          one.source ? el("p", { lang: languageOf(one.source) }, one.source) : null,
          el("p", { lang: languageOf(one.target) }, el("strong", {}, one.target)),
          el("p", { class: "facts" },
            `${t("similar_distance")} ${number(1 - one.distance, 3)} · ${t("similar_line", { line: one.line })} · ${one.token.replace(/\u2581/g, " ").trim()}`))),
    );
  }
}
