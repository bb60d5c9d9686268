import { el } from "./dom.js";

export class BeamView {
  title = "tab_beam";

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
