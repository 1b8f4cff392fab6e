// Elements of the page. Every text that is shown goes through here, as text and never as markup: names are
// chosen by strangers.

const SHAPELESS = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** The text with everything that has no shape as an escape, as the command line shows it. */
export function visible(text) {
  return String(text).replace(SHAPELESS, (it) => {
    const code = it.codePointAt(0);
    if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
    if (code <= 0xffff) return `\\u${code.toString(16).padStart(4, "0")}`;
    return `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

/** An element with attributes; a function is a listener, null or false is no attribute. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : visible(value));
    }
  }
  made.append(...nodes(children));
  return made;
}

/** Put these in the place of all that is in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...nodes(children));
}

export function link(href, text, attributes = {}) {
  return element("a", { href, ...attributes }, text);
}

/** The address of a page by name, and of what it shows. */
export function address(...parts) {
  return "#/" + parts.map(encodeURIComponent).join("/");
}

function nodes(children) {
  return children
    .flat(9)
    .filter((it) => it !== null && it !== undefined && it !== false)
    .map((it) => (it instanceof Node ? it : document.createTextNode(visible(it))));
}
