// Requests to the server that sent this page.

const KEY = "seq2seq_kit token";
let askForToken = async () => "";

/** Says who asks for the token where the server needs one; returns it, or "" if there is none. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** An answer that is an error, with the server's words. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Returns the JSON that a path answers. */
export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

/** Returns the JSON that a path answers to a body. */
export async function post(path, body, signal) {
  return (await send(path, { method: "POST", body: JSON.stringify(body), signal })).json();
}

/** Calls `onPiece` with each piece of an output as it is written; returns the whole. */
export async function stream(body, onPiece, signal) {
  const response = await send("generate", {
    method: "POST",
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ServerError("", 0);
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [event, data] = block.split("\n").map((line) => line.slice(line.indexOf(": ") + 2));
      const content = JSON.parse(data);
      if (event === "end") return content.text;
      if (event === "error") throw new ServerError(content.error, 200);
      onPiece(content.text);
    }
  }
}

async function send(path, options) {
  const token = sessionStorage.getItem(KEY);
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    const given = await askForToken(token !== null);
    if (given) {
      sessionStorage.setItem(KEY, given);
      return send(path, options);
    }
  }
  let message = "";
  try {
    message = (await response.json()).error;
  } catch {
    // A proxy's page, for example: the status has to do.
  }
  throw new ServerError(message || `HTTP ${response.status}`, response.status);
}
