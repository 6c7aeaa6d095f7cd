// Reads a stream of server-sent events, however it is split into pieces. Pure.

export class EventReader {
  #line = "";
  #data = [];
  #afterReturn = false;

  // The data of each event that ends in this piece of text.
  feed(piece) {
    if (piece === "") return [];
    const text = this.#afterReturn && piece.startsWith("\n") ? piece.slice(1) : piece;
    this.#afterReturn = piece.endsWith("\r");
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = lines.pop();
    const events = [];
    for (const line of lines) {
      if (line !== "") this.#take(line);
      else if (this.#data.length > 0) events.push(this.#data.splice(0).join("\n"));
    }
    return events;
  }

  #take(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    if (name !== "data") return; // a comment begins with the colon
    const value = colon < 0 ? "" : line.slice(colon + 1);
    this.#data.push(value.startsWith(" ") ? value.slice(1) : value);
  }
}
