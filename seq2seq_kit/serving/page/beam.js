// The beam search as a tree, from left to right.

import { post } from "./api.js";
import { debounced, el, svg } from "./dom.js";
import { number, percent, t } from "./i18n.js";

const WIDTH = 92;
const HEIGHT = 26;

export class BeamView {
  title = "tab_beam";

  constructor(workspace) {
    this.workspace = workspace;
    this.tree = null;
    this.key = "";
    this.size = el("input", {
      type: "number",
      min: 2,
      max: workspace.server.max_beam,
      value: 3,
      oninput: debounced(300, () => this.show()),
    });
    this.picture = el("div", { class: "scroll tree", tabindex: 0, role: "group", "data-label": "tab_beam" });
    this.list = el("ol", { class: "facts ends" });
    this.element = el(
      "div",
      {},
      el("p", { class: "hint", "data-text": "beam_help" }),
      el("div", { class: "bar" },
        el("label", {}, el("span", { "data-text": "beam_size" }), " ", this.size)),
      this.picture,
      this.list,
    );
  }

  suits(model) {
    return model.can_look_inside;
  }

  forget() {
    this.tree = null;
    this.key = "";
  }

  relabel() {
    this.draw();
  }

  async show() {
    const { workspace } = this;
    if (!workspace.output) return this.draw();
    const beam_size = Math.max(2, Math.min(workspace.server.max_beam, Number(this.size.value) || 3));
    const body = { model: workspace.model.name, text: workspace.text, beam_size };
    const key = JSON.stringify(body);
    if (key === this.key) return;
    this.key = key;
    this.picture.replaceChildren(el("p", { class: "hint" }, t("thinking")));
    try {
      const tree = await post("inspect/beam", body);
      if (this.key !== key) return;
      this.tree = tree;
      this.draw();
    } catch (error) {
      this.forget();
      this.draw();
      workspace.events.problem(error);
    }
  }

  draw() {
    if (!this.tree || !this.workspace.output) {
      this.picture.replaceChildren(el("p", { class: "hint" }, t("nothing")));
      this.list.replaceChildren();
      return;
    }
    const { nodes } = this.tree;
    const rows = layOut(nodes);
    const width = (1 + Math.max(...nodes.map((node) => node.step))) * WIDTH + 40;
    const height = (1 + Math.max(...rows)) * HEIGHT + 12;
    const ends = nodes.filter((node) => node.fate === "finished");
    const at = (place) => [nodes[place].step * WIDTH + 14, rows[place] * HEIGHT + 18];
    const edges = [];
    const labels = [];
    nodes.forEach((node, place) => {
      const name = node.token.replace(/\u2581/g, " ").trim() || (node.step ? "␣" : "•");
      const shown = name === "</s>" ? "■" : name;
      const classes = [node.is_best ? "is-best" : "", `is-${node.fate}`].join(" ");
      const [x, y] = at(place);
      if (node.parent !== null) {
        const [px, py] = at(node.parent);
        const share = Math.exp(node.log_prob - nodes[node.parent].log_prob);
        const from = px + WIDTH * 0.62;
        edges.push(svg("path", {
          class: `edge ${classes}`,
          d: `M${px + 4} ${py}H${from}C${from + 14} ${py} ${x - 22} ${y} ${x - 6} ${y}`,
          "stroke-width": (0.8 + 4.2 * share).toFixed(2),
        }));
      }
      const text = `${node.text || shown} · ${number(node.log_prob)}`;
      labels.push(svg("text", { class: `node ${classes}`, x, y: y + 4 }, clip(shown), svg("title", {}, text)));
    });
    this.picture.replaceChildren(
      svg("svg", { width, height, role: "img", "aria-label": t("beam_label", { number: ends.length }) }, edges, labels),
    );
    this.list.replaceChildren(
      ...ends
        .sort((left, right) => right.score - left.score)
        .map((node) => el("li", {}, `${node.text} · ${number(node.score)} · ${percent(Math.exp(node.log_prob))}`)),
    );
  }
}

function clip(text) {
  return text.length > 9 ? `${text.slice(0, 8)}…` : text;
}

/** Returns the row of each node: the best path straight on top, each other branch below. */
function layOut(nodes) {
  const children = nodes.map(() => []);
  nodes.forEach((node, place) => node.parent !== null && children[node.parent].push(place));
  const rows = nodes.map(() => 0);
  let next = 0;
  // Without recursion: a long output is a deep tree.
  const stack = [[0, 0]];
  while (stack.length) {
    const [place, row] = stack.pop();
    rows[place] = row < 0 ? (next += 1) : row;
    const sorted = children[place].sort(
      (left, right) => nodes[left].is_best - nodes[right].is_best || nodes[left].log_prob - nodes[right].log_prob,
    );
    sorted.forEach((child, index) => stack.push([child, index === sorted.length - 1 ? rows[place] : -1]));
  }
  return rows;
}
