import { el } from "./dom.js";

export class AttentionView {
  title = "tab_attention";

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
