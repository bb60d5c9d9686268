// The best outputs of the beam, or samples.

import { post } from "./api.js";
import { debounced, el, languageOf } from "./dom.js";
import { number, t } from "./i18n.js";

export class BestView {
  title = "tab_nbest";

  constructor(workspace) {
    this.workspace = workspace;
    this.found = null;
    this.key = "";
    this.help = el("p", { class: "hint" });
    this.number = el("input", {
      type: "number",
      min: 1,
      max: workspace.server.max_beam,
      value: 4,
      oninput: debounced(200, () => this.show()),
    });
    this.list = el("ol", { class: "hypotheses" });
    this.element = el(
      "div",
      {},
      el("div", { class: "bar" },
        el("label", {}, el("span", { "data-text": "nbest_number" }), " ", this.number), this.help),
      this.list,
    );
  }

  suits() {
    return true;
  }

  forget() {
    this.found = null;
    this.key = "";
  }

  relabel() {
    const is_sample = this.workspace.model.sample;
    this.help.textContent = t(is_sample ? "nbest_samples" : "nbest_beam");
    this.draw();
  }

  get wanted() {
    const { model, server, isRun } = this.workspace;
    const most = isRun || model.sample ? server.max_beam : model.beam_size;
    return Math.max(1, Math.min(most, Number(this.number.value) || 1));
  }

  async show() {
    const { workspace, wanted } = this;
    if (!workspace.output) return this.draw();
    const body = {
      model: workspace.model.name,
      texts: [workspace.text],
      num_hypotheses: wanted,
      ...workspace.options,
    };
    if (workspace.prefix) body.prefixes = [workspace.prefix];
    const { model } = workspace;
    if (workspace.isRun && !model.sample) body.beam_size = Math.max(wanted, model.beam_size);
    const key = JSON.stringify(body);
    if (key === this.key) return this.draw();
    this.key = key;
    try {
      const { hypotheses } = await post("generate", body);
      if (this.key !== key) return;
      [this.found] = hypotheses;
      this.draw();
    } catch (error) {
      this.key = "";
      workspace.events.problem(error);
    }
  }

  draw() {
    if (!this.found) {
      this.list.replaceChildren(el("li", { class: "hint" }, t("nothing")));
      return;
    }
    this.list.replaceChildren(...this.found.map((one) => this.item(one)));
  }

  item(one) {
    const facts = [
      `${t("nbest_prob")} ${one.log_prob === null ? "–" : number(one.log_prob)}`,
      `${t("nbest_score")} ${one.score === null ? "–" : number(one.score)}`,
    ];
    if (one.is_cut) facts.push(t("nbest_cut"));
    const is_shown = one.text === this.workspace.output;
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "hypothesis",
          "aria-pressed": String(is_shown),
          title: t("nbest_use"),
          onclick: () => {
            this.workspace.showOutput(one.text);
            this.draw();
            this.list.querySelector("[aria-pressed=true]")?.focus();
          },
        },
        el("span", { class: "text", lang: languageOf(one.text) }, one.text || "∅"),
        el("span", { class: "facts" }, facts.join(" · ")),
      ),
    );
  }
}
