// The output: text while it is written, then words that show their surprise and can be replaced.

import { post } from "./api.js";
import { el, languageOf, newId, roving } from "./dom.js";
import { percent, t } from "./i18n.js";

// Nats at which a word has the deepest color: a probability of about one in four hundred.
const MOST = 6;

export class Words {
  /** @param {import("./workspace.js").Workspace} workspace The text that these are the output of. */
  constructor(workspace) {
    this.workspace = workspace;
    this.box = workspace.outputBox;
    this.words = [];
    this.refresh = roving(this.box, "button.word");
    this.choices = el("div", { class: "choices", role: "group", hidden: true });
    this.choices.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    this.list = null;
    this.numbers = el("input", {
      type: "checkbox",
      onchange: () => this.box.classList.toggle("numbered", this.numbers.checked),
    });
    this.legend = el(
      "div",
      { class: "legend", hidden: true },
      el("span", { "data-text": "surprise" }),
      el("span", { class: "ramp", "aria-hidden": "true" },
        el("span", { "data-text": "surprise_low" }), el("i"), el("span", { "data-text": "surprise_high" })),
      el("label", { class: "check" }, this.numbers, " ", el("span", { "data-text": "numbers" })),
    );
  }

  /** Empties the output, but for a forced beginning. */
  begin(prefix) {
    this.words = [];
    this.close(false);
    this.box.setAttribute("aria-busy", "true");
    this.box.classList.add("is-writing");
    this.box.replaceChildren(prefix);
    this.legend.hidden = true;
  }

  /** Adds a piece; what is there stays. */
  add(piece) {
    this.box.append(piece);
  }

  /** Ends the writing; with a text, shows just this text. */
  finish(text = null) {
    this.box.removeAttribute("aria-busy");
    this.box.classList.remove("is-writing");
    if (text === null) return;
    this.words = [];
    this.box.lang = languageOf(text) ?? "";
    if (this.box.textContent !== text) this.box.replaceChildren(text);
    if (!text) {
      const hint = this.workspace.text ? "empty_output" : "empty";
      this.box.replaceChildren(el("span", { class: "hint", "data-text": hint }, t(hint)));
    }
  }

  /** Shows the output word by word. */
  show(words) {
    this.words = words;
    // The same text in another form: nothing that a screen reader should read again.
    this.box.setAttribute("aria-live", "off");
    this.draw();
    this.legend.hidden = false;
    requestAnimationFrame(() => this.box.setAttribute("aria-live", "polite"));
  }

  draw() {
    let length = 0;
    const forced = this.workspace.prefix.length;
    const buttons = this.words.map((word, place) => {
      const is_forced = length < forced;
      length += word.text.length;
      return this.button(word, place, is_forced);
    });
    this.box.replaceChildren(...buttons);
    this.refresh();
    this.markDifferences(this.workspace.other);
  }

  button(word, place, is_forced) {
    const share = Math.exp(word.log_prob);
    const shown = word.text.replace(/\n/g, "⏎");
    const values = { word: shown.trim() || "␣", percent: percent(share) };
    const name = word.is_end ? "end_label" : is_forced ? "word_forced" : "word_label";
    const classes = ["word"];
    if (word.is_end) classes.push("end");
    if (is_forced) classes.push("is-forced");
    if (/^\s/.test(word.text)) classes.push("begins");
    return el(
      "button",
      {
        type: "button",
        class: classes.join(" "),
        tabindex: -1,
        title: t(name, values),
        "aria-label": t(name, values),
        "aria-expanded": "false",
        "--surprise": Math.min(1, -word.log_prob / MOST).toFixed(3),
        onclick: (event) => this.open(word, place, event.currentTarget),
      },
      el("span", { class: "text" }, word.is_end ? t("end") : shown),
      el("span", { class: "share", "aria-hidden": "true" }, percent(share)),
    );
  }

  /** Shows what could be in the place of a word. */
  async open(word, place, opener) {
    const was_open = opener.getAttribute("aria-expanded") === "true";
    this.close(false);
    if (was_open) return;
    const { workspace } = this;
    opener.setAttribute("aria-expanded", "true");
    this.opener = opener;
    try {
      const body = { ...workspace.body, step: word.step, count: 8 };
      const { alternatives } = await post("inspect/alternatives", body);
      if (this.opener !== opener) return;
      this.fill(word, alternatives);
    } catch (error) {
      this.close();
      workspace.events.problem(error);
    }
  }

  fill(word, alternatives) {
    const title = newId("choices");
    const heading = word.is_end ? t("choices_end") : t("choices", { word: word.text.trim() });
    const list = el("ul", {});
    for (const one of alternatives) list.append(el("li", {}, this.choice(one)));
    roving(list, "button.choice")();
    this.choices.setAttribute("aria-labelledby", title);
    this.choices.replaceChildren(
      el("div", { class: "card-head" }, el("h4", { id: title }, heading),
        el("button", { type: "button", class: "small", onclick: () => this.close() }, t("close"))),
      list,
      this.ownWord(word),
    );
    this.choices.hidden = false;
    list.querySelector("button:not(:disabled)")?.focus();
  }

  choice(one) {
    const share = Math.exp(one.log_prob);
    const word = one.is_end ? t("end") : one.token.trim() || "␣";
    return el(
      "button",
      {
        type: "button",
        class: "choice",
        disabled: one.prefix === null,
        "aria-label": t("choose_label", { word, percent: percent(share) }),
        "--share": share.toFixed(4),
        onclick: () => this.take(one.prefix),
      },
      el("span", { class: "text", lang: languageOf(word) }, word),
      el("span", { class: "share", "aria-hidden": "true" }, percent(share)),
    );
  }

  /** Returns a field for a word that is not among the alternatives. */
  ownWord(word) {
    const before = this.textBefore(word.step);
    const field = el("input", { type: "text", value: before });
    const form = el(
      "form",
      { class: "own", onsubmit: (event) => (event.preventDefault(), this.take(field.value)) },
      el("label", {}, t("own_word"), " ", field),
      el("button", { type: "submit", class: "small" }, t("go_on")),
    );
    return form;
  }

  textBefore(step) {
    const text = this.words.filter((word) => word.step < step).map((word) => word.text).join("");
    return this.workspace.output.startsWith(text.trimStart()) ? text.trimStart() : text;
  }

  take(prefix) {
    this.close(false);
    this.workspace.force(prefix);
    this.box.focus();
  }

  close(returns_focus = true) {
    this.opener?.setAttribute("aria-expanded", "false");
    if (returns_focus && this.choices.contains(document.activeElement)) this.opener?.focus();
    this.opener = null;
    this.choices.hidden = true;
  }

  /** Marks the words that are not in another text, in the same order; null marks none. */
  markDifferences(other) {
    const buttons = [...this.box.querySelectorAll("button.word")];
    const common = other === null ? null : commonPieces(this.words, other);
    buttons.forEach((button, place) => {
      const word = this.words[place];
      const is_different = common !== null && !word.is_end && !common.has(place);
      button.classList.toggle("is-different", is_different);
      if (is_different) {
        button.title = t("different", { word: word.text.trim() });
        button.setAttribute("aria-label", `${button.title}, ${percent(Math.exp(word.log_prob))}`);
      }
    });
  }

  relabel() {
    if (this.words.length) this.draw();
    this.close(false);
  }
}

/** Splits a text into words and punctuation marks; Chinese and Japanese by the character. */
export function splitWords(text) {
  return text.match(/[\u3040-\u30ff\u4e00-\u9fff]|(?:(?![\u3040-\u30ff\u4e00-\u9fff])[\p{L}\p{M}\p{N}])+|\S/gu) ?? [];
}

/** Returns the places of the pieces that belong to words which another text has, too. */
function commonPieces(pieces, other) {
  const words = splitWords(pieces.map((piece) => piece.text).join(""));
  const common = longestCommon(words, splitWords(other));
  const wordOfLetter = words.flatMap((word, place) => [...word].map(() => place));
  const found = new Set();
  let letter = 0;
  pieces.forEach((piece, place) => {
    const number = [...piece.text.replace(/\s/g, "")].length;
    const covered = wordOfLetter.slice(letter, letter + number);
    if (covered.every((word) => common.has(word))) found.add(place);
    letter += number;
  });
  return found;
}

/** Returns the places in `left` of a longest common subsequence with `right`. */
export function longestCommon(left, right) {
  const lengths = Array.from({ length: left.length + 1 }, () => new Uint16Array(right.length + 1));
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      lengths[i][j] = left[i] === right[j]
        ? lengths[i + 1][j + 1] + 1
        : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const places = new Set();
  for (let i = 0, j = 0; i < left.length && j < right.length; ) {
    if (left[i] === right[j]) {
      places.add(i);
      i += 1;
      j += 1;
    } else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return places;
}
