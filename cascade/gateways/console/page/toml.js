// A policy's canonical TOML: one value a line. Values that are not changed keep their very letters.

const KEY = /^([A-Za-z0-9_-]+)\s*=\s*(.+?)\s*$/;
const TABLE = /^\[([A-Za-z0-9_.-]+)\]$/;

/** A policy file that can be read and changed by dotted keys. */
export class PolicyFile {
  /** Reads canonical TOML, as the server gives it. Throws where a line is neither a table, a key nor a comment. */
  constructor(text) {
    this.tables = new Map([["", new Map()]]);
    let table = "";
    for (const line of text.split("\n").map((raw) => raw.trim())) {
      const key = KEY.exec(line);
      if (line === "" || line.startsWith("#")) continue;
      if (TABLE.test(line)) {
        table = TABLE.exec(line)[1];
        if (!this.tables.has(table)) this.tables.set(table, new Map());
      } else if (key) this.tables.get(table).set(key[1], key[2]);
      else throw new Error("not the canonical form of a policy");
    }
  }

  copy() {
    return new PolicyFile(this.toString());
  }

  /** A value by its dotted key; undefined where there is none. */
  get(path) {
    const [table, key] = split(path);
    const raw = this.tables.get(table)?.get(key);
    return raw === undefined ? undefined : JSON.parse(raw);
  }

  /** Sets a probability or a string, at the end of its table where it is new. */
  set(path, value) {
    const [table, key] = split(path);
    if (!this.tables.has(table)) this.tables.set(table, new Map());
    this.tables.get(table).set(key, typeof value === "number" ? real(value) : JSON.stringify(value));
  }

  /** Removes a key, or a table with those below it. */
  drop(path) {
    const [table, key] = split(path);
    this.tables.get(table)?.delete(key);
    for (const name of [...this.tables.keys()]) {
      if (name === path || name.startsWith(`${path}.`)) this.tables.delete(name);
    }
  }

  /** All values by dotted key. */
  values() {
    const keys = [...this.tables].flatMap(([table, values]) => [...values.keys()].map((key) => (table ? `${table}.${key}` : key)));
    return Object.fromEntries(keys.map((key) => [key, this.get(key)]));
  }

  toString() {
    return [...this.tables].filter(([, values]) => values.size > 0)
      .map(([table, values]) => [...(table ? [`[${table}]`] : []), ...[...values].map(([key, raw]) => `${key} = ${raw}`)].join("\n"))
      .join("\n\n") + "\n";
  }
}

/** TOML tells 1 from 1.0: a probability is written as the latter. */
function real(value) {
  const shown = String(Number(value.toFixed(6)));
  return /^-?\d+$/.test(shown) ? `${shown}.0` : shown;
}

function split(path) {
  const at = path.lastIndexOf(".");
  return [path.slice(0, Math.max(0, at)), path.slice(at + 1)];
}
