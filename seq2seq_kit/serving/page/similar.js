import { el } from "./dom.js";

export class SimilarView {
  title = "tab_similar";

  constructor(workspace) {
    this.workspace = workspace;
    this.element = el("div", {});
  }

  suits() {
    return false;
  }

  forget() {}

  relabel() {}

  show() {}
}
