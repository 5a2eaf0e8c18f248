// Reads the one form of HTML that highlight.js writes, so that none of it is ever inserted into the page.

export interface Token {
  text: string;
  /** Class names of all spans around it. */
  kind: string;
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#x27': "'" };

function plain(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|#x27);/g, (_, name: string) => ENTITIES[name] ?? '');
}

export function tokensOf(html: string): Token[] {
  const tokens: Token[] = [];
  const open: string[] = [];
  for (const part of html.split(/(<span class="[^"]*">|<\/span>)/)) {
    const kind = /^<span class="([^"]*)">$/.exec(part)?.[1];
    if (kind !== undefined) open.push(kind);
    else if (part === '</span>') open.pop();
    else if (part !== '') tokens.push({ text: plain(part), kind: open.join(' ') });
  }
  return tokens;
}
