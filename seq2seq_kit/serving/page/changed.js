// What a changed model writes, beside what it wrote before.

import { el, languageOf } from "./dom.js";
import { t } from "./i18n.js";
import { longestCommon, splitWords } from "./words.js";

/** Returns an element that shows a changed output; words that are new in it are underlined. */
export function changedOutput() {
  const box = el("div", { class: "changed", role: "status", hidden: true });
  return box;
}

/** Fills such an element. */
export function showChanged(box, before, after) {
  box.hidden = false;
  const heading = el("h4", {}, t("changed_output"));
  if (after === before) {
    box.replaceChildren(heading, el("p", { class: "hint" }, t("same_output")));
    return;
  }
  const words = splitWords(after);
  const common = longestCommon(words, splitWords(before));
  const text = el("p", { class: "text", lang: languageOf(after) });
  let end = 0;
  words.forEach((word, place) => {
    const start = after.indexOf(word, end);
    text.append(after.slice(end, start));
    end = start + word.length;
    text.append(common.has(place) ? word : el("mark", {}, word));
  });
  text.append(after.slice(end));
  box.replaceChildren(heading, after ? text : el("p", { class: "hint" }, t("empty_output")));
}
