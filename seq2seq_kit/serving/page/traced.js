// What the views of a trace share: it is asked for when the view is shown, and drawn once.

export class TracedView {
  /** @param {import("./workspace.js").Workspace} workspace The text whose output is traced. */
  constructor(workspace) {
    this.workspace = workspace;
    this.trace = null;
  }

  relabel() {
    this.draw();
  }

  async show() {
    const { workspace } = this;
    if (!workspace.output) return this.draw();
    try {
      const trace = await workspace.trace();
      if (trace === this.trace) return;
      this.take(trace);
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") workspace.events.problem(error);
    }
  }

  /** Keeps a trace, which is that of another output than before. */
  take(trace) {
    this.trace = trace;
  }
}
