// The gates of a layer over time: a track for each part, with a slider that changes it.

import { post } from "./api.js";
import { changedOutput } from "./changed.js";
import { debounced, el, svg } from "./dom.js";
import { number, t } from "./i18n.js";
import { TracedView } from "./traced.js";

const LIMITS = { candidate: [-1, 1], hidden: [-1, 1], cell: [-3, 3] };

export class GatesView extends TracedView {
  title = "tab_gates";

  constructor(workspace) {
    super(workspace);
    this.changes = new Map();
    this.chosen = new Set();
    this.open = null;
    this.layerName = null;
    this.writeSoon = debounced(300, () => this.write());
    this.layer = el("select", { onchange: () => this.chooseLayer(this.layer.value) });
    this.mode = el(
      "select",
      { onchange: () => this.reset() },
      el("option", { value: "scale", "data-text": "mode_scale" }),
      el("option", { value: "value", "data-text": "mode_hold" }),
    );
    this.note = el("p", { class: "hint", hidden: true });
    this.tracks = el("div", { class: "tracks" });
    this.units = el("div", { class: "units", role: "group", hidden: true });
    this.result = changedOutput();
    this.empty = el("p", { class: "hint" });
    this.element = el(
      "div",
      {},
      el("p", { class: "hint", "data-text": "gates_help" }),
      el("div", { class: "bar" },
        el("label", {}, el("span", { "data-text": "layer" }), " ", this.layer),
        el("label", {}, el("span", { "data-text": "mode" }), " ", this.mode),
        el("button", { type: "button", "data-text": "reset_gates", onclick: () => this.reset() }),
        this.note),
      this.result,
      this.empty,
      this.tracks,
      this.units,
    );
  }

  suits(model) {
    return model.can_look_inside;
  }

  forget() {
    this.trace = null;
    this.changes.clear();
    this.chosen.clear();
    this.open = null;
    this.result.hidden = true;
  }

  chooseLayer(name) {
    this.layerName = name;
    this.chosen.clear();
    this.open = null;
    this.draw();
  }

  reset() {
    this.changes.clear();
    this.result.hidden = true;
    this.draw();
  }

  get current() {
    const layers = this.trace?.layers ?? [];
    return layers.find((layer) => layer.name === this.layerName) ?? layers.at(-1);
  }

  draw() {
    const layer = this.workspace.output ? this.current : undefined;
    this.empty.hidden = Boolean(layer);
    this.empty.textContent = t("nothing");
    this.tracks.hidden = !layer;
    this.units.hidden = !layer || this.open === null;
    this.note.hidden = this.chosen.size === 0;
    if (!layer) return;
    this.layerName = layer.name;
    this.layer.replaceChildren(
      ...this.trace.layers.map((one) => el("option", { value: one.name }, `${one.name} (${one.units})`)),
    );
    this.layer.value = layer.name;
    this.note.textContent = t("units_chosen", { units: [...this.chosen].join(", ") });
    const parts = Object.entries(layer.parts);
    this.tracks.style.setProperty("--steps", layer.tokens.length);
    this.tracks.replaceChildren(
      ...parts.map(([part, summary]) => this.track(part, summary)),
      this.axis(layer.tokens),
    );
  }

  track(part, summary) {
    const name = t(`part_${part}`);
    const bounds = limits(part, summary);
    const label = t("track_label", {
      part: name,
      mean: number(summary.mean.reduce((sum, value) => sum + value, 0) / summary.mean.length),
      low: number(Math.min(...summary.low)),
      high: number(Math.max(...summary.high)),
    });
    return el(
      "div",
      { class: "track" },
      el("div", { class: "control" },
        el("div", { class: "card-head" }, el("strong", {}, name),
          el("button", {
            type: "button",
            class: "small",
            "aria-expanded": String(this.open === part),
            "aria-label": t("units_label", { part: name }),
            onclick: () => this.toggleUnits(part),
          }, t("units_show"))),
        this.slider(part, name)),
      el("div", { class: "plot" },
        plot(summary, bounds, label),
        el("span", { class: "limit top-limit", "aria-hidden": "true" }, number(bounds[1], 1)),
        el("span", { class: "limit", "aria-hidden": "true" }, number(bounds[0], 1))),
    );
  }

  slider(part, name) {
    const key = `${this.layerName} ${part}`;
    const is_scale = this.mode.value === "scale";
    const [low, high] = is_scale ? [0, 2] : (LIMITS[part] ?? [0, 1]);
    const change = this.changes.get(key);
    const start = change?.[this.mode.value] ?? (is_scale ? 1 : (low + high) / 2);
    const value = el("output", { class: "value" }, this.valueText(change));
    const slider = el("input", {
      type: "range",
      min: low,
      max: high,
      step: 0.05,
      value: start,
      "aria-label": t(is_scale ? "scale_label" : "hold_label", { part: name }),
      oninput: () => {
        const units = this.chosen.size ? [...this.chosen] : null;
        const one = { layer: this.layerName, part, units, [this.mode.value]: slider.valueAsNumber };
        if (is_scale && slider.valueAsNumber === 1) this.changes.delete(key);
        else this.changes.set(key, one);
        value.textContent = this.valueText(this.changes.get(key));
        this.writeSoon();
      },
    });
    return el("div", { class: "slide" }, slider, value);
  }

  valueText(change) {
    if (!change) return t("unchanged");
    if (change.scale !== undefined) return t("times", { value: number(change.scale) });
    return t("held_at", { value: number(change.value) });
  }

  axis(tokens) {
    return el(
      "div",
      { class: "track axis", "aria-hidden": "true" },
      el("div", { class: "control" }),
      el("div", { class: "plot tokens" },
        tokens.map((token) => el("span", {}, token.replace(/\u2581/g, " ").trim() || "␣"))),
    );
  }

  async write() {
    if (!this.changes.size) {
      this.result.hidden = true;
      return;
    }
    await this.workspace.writeChanged({ interventions: [...this.changes.values()] }, this.result);
  }

  async toggleUnits(part) {
    this.open = this.open === part ? null : part;
    this.draw();
    if (this.open) await this.loadUnits();
    this.tracks.querySelector(`[aria-expanded="${this.open !== null}"]`)?.focus();
  }

  async loadUnits() {
    const { workspace, open: part, layerName: layer } = this;
    try {
      const body = { ...workspace.body, layer, part, units: [...this.chosen] };
      const found = await post("inspect/units", body);
      if (this.open === part && this.layerName === layer) this.drawUnits(part, found);
    } catch (error) {
      workspace.events.problem(error);
    }
  }

  drawUnits(part, found) {
    const name = t(`part_${part}`);
    const bounds = limits(part, { low: found.values.flat(), high: found.values.flat() });
    const field = el("input", { type: "number", min: 0, max: this.current.units - 1, value: 0 });
    this.units.hidden = false;
    this.units.setAttribute("aria-label", t("units_of", { part: name }));
    this.units.replaceChildren(
      el("div", { class: "card-head" }, el("h4", {}, t("units_of", { part: name })),
        el("span", { class: "hint" }, t("units_help"))),
      el("div", { class: "unit-grid" },
        found.units.map((unit, place) => this.unit(unit, found.values[place], bounds))),
      el("div", { class: "bar" },
        el("label", {}, t("units_other"), " ", field),
        el("button", { type: "button", onclick: () => this.choose(field.valueAsNumber, true) }, t("units_add")),
        el("button", { type: "button", onclick: () => this.choose(null) }, t("units_clear"))),
    );
  }

  unit(unit, values, bounds) {
    return el(
      "button",
      {
        type: "button",
        class: "unit",
        "aria-pressed": String(this.chosen.has(unit)),
        "aria-label": t("unit_label", { unit, low: number(Math.min(...values)), high: number(Math.max(...values)) }),
        onclick: () => this.choose(unit),
      },
      el("span", { "aria-hidden": "true" }, String(unit)),
      plot({ mean: values }, bounds, null),
    );
  }

  /** Adds or removes a unit; null removes all. */
  async choose(unit, is_new = false) {
    if (unit === null) this.chosen.clear();
    else if (this.chosen.has(unit) && !is_new) this.chosen.delete(unit);
    else this.chosen.add(unit);
    const units = this.chosen.size ? [...this.chosen] : null;
    for (const change of this.changes.values()) {
      if (change.layer === this.layerName) change.units = units;
    }
    this.draw();
    await this.loadUnits();
    const place = [...this.units.querySelectorAll(".unit > span")].find((one) => one.textContent === String(unit));
    place?.parentElement.focus();
    if (this.changes.size) this.writeSoon();
  }
}

/** Returns the least and the largest value of a track. */
function limits(part, summary) {
  if (part !== "cell") return LIMITS[part] ?? [0, 1];
  const most = Math.max(1, ...summary.high.map(Math.abs), ...summary.low.map(Math.abs));
  return [-Math.ceil(most), Math.ceil(most)];
}

/** Returns a picture of values over time, with a band where they have one. */
function plot({ mean, low, high }, [least, largest], label) {
  const height = (value) => ((largest - value) / (largest - least)).toFixed(4);
  const line = mean.flatMap((value, step) => [`${step},${height(value)}`, `${step + 1},${height(value)}`]);
  const points = (values) => values.flatMap((value, step) => [`${step},${height(value)}`, `${step + 1},${height(value)}`]);
  const band = low ? [...points(high), ...points(low).reverse()] : null;
  const properties = label
    ? { role: "img", "aria-label": label }
    : { "aria-hidden": "true" };
  return svg(
    "svg",
    { viewBox: `0 0 ${mean.length} 1`, preserveAspectRatio: "none", ...properties },
    least < 0 ? svg("line", { class: "zero", x1: 0, x2: mean.length, y1: height(0), y2: height(0) }) : null,
    band ? svg("polygon", { class: "band", points: band.join(" ") }) : null,
    svg("polyline", { class: "mean", points: line.join(" ") }),
  );
}
