// Attention as a table that can be dragged: a row is a token that is written.

import { changedOutput } from "./changed.js";
import { el, newId, roving } from "./dom.js";
import { percent, t } from "./i18n.js";
import { TracedView } from "./traced.js";

export class AttentionView extends TracedView {
  title = "tab_attention";

  constructor(workspace) {
    super(workspace);
    this.forget();
    this.table = el("table", { class: "attention" });
    this.editor = el("div", { class: "editor", role: "group", hidden: true });
    this.result = changedOutput();
    this.empty = el("p", { class: "hint" });
    this.element = el(
      "div",
      {},
      el("p", { class: "hint", "data-text": "attention_help" }),
      this.empty,
      el("div", { class: "attention-layout" },
        el("div", { class: "scroll", tabindex: 0, role: "group", "data-label": "tab_attention" }, this.table),
        el("div", { class: "side" }, this.editor, this.result)),
    );
    this.refresh = roving(this.table, "button.row");
    this.table.addEventListener("pointerdown", (event) => this.startDrag(event));
  }

  suits(model) {
    return model.can_look_inside && model.has_attention;
  }

  forget() {
    this.trace = null;
    this.row = null;
    this.weights = new Map();
    if (this.result) this.result.hidden = true;
  }

  take(trace) {
    this.forget();
    super.take(trace);
  }

  /** The attention of a row: as the model has it, or as it was changed. */
  rowOf(step) {
    return this.weights.get(step) ?? this.trace.attention[step];
  }

  draw() {
    const has = this.trace?.attention && this.workspace.output;
    this.empty.hidden = Boolean(has);
    this.empty.textContent = t("nothing");
    this.table.hidden = !has;
    this.editor.hidden = !has || this.row === null;
    if (!has) return this.table.replaceChildren();
    const { source_tokens: sources, target_tokens: targets } = this.trace;
    const head = el("tr", {}, el("td", {}),
      sources.map((token) => el("th", { scope: "col" }, el("span", {}, shown(token)))));
    const body = targets.map((token, step) => this.drawRow(token, step));
    this.table.replaceChildren(el("thead", {}, head), el("tbody", {}, body));
    this.refresh();
    this.drawEditor();
  }

  drawRow(token, step) {
    const weights = this.rowOf(step);
    const most = this.trace.source_tokens[weights.indexOf(Math.max(...weights))];
    const is_changed = this.weights.has(step);
    const label = t("attention_choose", { word: shown(token), most: shown(most) });
    return el(
      "tr",
      { "data-step": step, class: step === this.row ? "is-chosen" : null },
      el("th", { scope: "row" },
        el("button", {
          type: "button",
          class: "row small",
          "aria-label": is_changed ? `${label}, ${t("attention_changed")}` : label,
          "aria-pressed": String(step === this.row),
          tabindex: -1,
          onclick: () => this.choose(step),
        }, is_changed ? `✎ ${shown(token)}` : shown(token))),
      weights.map((weight, place) =>
        el("td", { "data-place": place, title: `${shown(this.trace.source_tokens[place])} ${percent(weight)}`, "--weight": weight.toFixed(3) },
          el("i", {}))),
    );
  }

  choose(step) {
    this.row = this.row === step ? null : step;
    this.draw();
    this.table.querySelector(`tr[data-step="${step}"] button`)?.focus();
  }

  drawEditor() {
    this.editor.hidden = this.row === null;
    if (this.row === null) return;
    const word = shown(this.trace.target_tokens[this.row]);
    const heading = newId("row");
    const sliders = this.rowOf(this.row).map((weight, place) => {
      const value = el("output", {}, percent(weight));
      const slider = el("input", {
        type: "range",
        min: 0,
        max: 100,
        value: Math.round(weight * 100),
        oninput: () => {
          value.textContent = percent(slider.valueAsNumber / 100);
          this.readSliders();
        },
      });
      return el("label", { class: "slider" },
        el("span", {}, shown(this.trace.source_tokens[place])), slider, value);
    });
    this.editor.setAttribute("aria-labelledby", heading);
    this.editor.replaceChildren(
      el("h4", { id: heading }, t("attention_row", { word })),
      el("div", { class: "sliders" }, sliders),
      el("div", { class: "bar" },
        el("button", { type: "button", class: "main", onclick: () => this.write() }, t("attention_write")),
        el("button", { type: "button", onclick: () => this.reset() }, t("attention_reset"))),
    );
  }

  readSliders() {
    const values = [...this.editor.querySelectorAll("input")].map((one) => one.valueAsNumber);
    const sum = values.reduce((total, value) => total + value, 0);
    // Nothing at all cannot be looked at: then all alike.
    this.weights.set(this.row, values.map((value) => (sum ? value / sum : 1 / values.length)));
    const old = this.table.querySelector(`tr[data-step="${this.row}"]`);
    old.replaceWith(this.drawRow(this.trace.target_tokens[this.row], this.row));
    this.refresh();
  }

  /** Lets the pointer take the attention of a row with it, from cell to cell. */
  startDrag(event) {
    const cell = event.target.closest("td[data-place]");
    if (!cell) return;
    event.preventDefault();
    const step = Number(cell.parentElement.dataset.step);
    let place = -1;
    const follow = (at) => {
      const under = document.elementFromPoint(at.clientX, at.clientY)?.closest("td[data-place]");
      if (!under || Number(under.dataset.place) === place) return;
      place = Number(under.dataset.place);
      this.row = step;
      this.weights.set(step, this.trace.attention[step].map((_, other) => (other === place ? 1 : 0)));
      this.draw();
    };
    const end = () => {
      document.removeEventListener("pointermove", follow);
      document.removeEventListener("pointerup", end);
      document.removeEventListener("pointercancel", end);
      this.write();
    };
    document.addEventListener("pointermove", follow);
    document.addEventListener("pointerup", end);
    document.addEventListener("pointercancel", end);
    follow(event);
  }

  reset() {
    this.weights.clear();
    this.result.hidden = true;
    this.draw();
  }

  async write() {
    const { workspace } = this;
    const attention = [...this.weights].map(([step, weights]) => ({ step, weights }));
    await workspace.writeChanged({ attention }, this.result);
  }
}

function shown(token) {
  return token.replace(/\u2581/g, " ").trim() || "␣";
}
