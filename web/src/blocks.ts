// Cuts Markdown into blocks that can be drawn one by one: while an answer streams, only its last block changes.
//
// A cut in the wrong place would change what is shown; a missing one only costs time. So in doubt there is none.

export type Block = { kind: 'markdown'; text: string } | { kind: 'code'; text: string; language: string };

/** A link reference or a footnote holds for the whole text. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const ANY_FENCE = /^[ \t>]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`]*$)|~{3,})/;
const LIST = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/;

function closes(line: string, mark: string): boolean {
  const found = /^[ \t>]*(`{3,}|~{3,})[ \t]*$/.exec(line)?.[1];
  return found !== undefined && found[0] === mark[0] && found.length >= mark.length;
}

export function blocksOf(markdown: string): Block[] {
  if (DEFINITION.test(markdown)) return [{ kind: 'markdown', text: markdown }];
  const cutter = new Cutter();
  for (const line of markdown.split('\n')) cutter.line(line);
  return cutter.end();
}

class Cutter {
  private readonly blocks: Block[] = [];
  private lines: string[] = [];
  /** An open fence of a block of its own. */
  private fence: { mark: string; indent: number; language: string } | null = null;
  /** An open fence inside a list or a quotation. */
  private inner: string | null = null;
  private blank = false;

  line(line: string): void {
    if (this.fence) this.inFence(line, this.fence);
    else if (this.inner) this.inInner(line, this.inner);
    else this.outside(line);
  }

  end(): Block[] {
    if (this.fence) this.code(this.fence.language);
    else this.markdown();
    return this.blocks;
  }

  private inFence(line: string, fence: { mark: string; indent: number; language: string }): void {
    if (!closes(line, fence.mark) || /^[ \t]{4}|>/.test(line)) {
      this.lines.push(line.replace(new RegExp(`^ {0,${fence.indent}}`), ''));
      return;
    }
    this.code(fence.language);
    this.fence = null;
  }

  private inInner(line: string, mark: string): void {
    this.lines.push(line);
    if (closes(line, mark)) this.inner = null;
  }

  private outside(line: string): void {
    if (line.trim() === '') {
      this.blank = true;
      if (this.lines.length > 0) this.lines.push(line);
      return;
    }
    const fence = FENCE.exec(line);
    const inList = LIST.test(this.lines[0] ?? '');
    if (fence?.[2] && !(inList && fence[1])) {
      this.markdown();
      const language = (fence[3] ?? '').trim().split(/\s/)[0] ?? '';
      this.fence = { mark: fence[2], indent: fence[1]?.length ?? 0, language };
      return;
    }
    const goesOn = /^[ \t]/.test(line) || (inList && LIST.test(line));
    if (this.blank && !goesOn) this.markdown();
    this.blank = false;
    this.lines.push(line);
    this.inner = ANY_FENCE.exec(line)?.[1] ?? null;
  }

  private markdown(): void {
    const text = this.lines.join('\n');
    if (text.trim() !== '') this.blocks.push({ kind: 'markdown', text });
    this.lines = [];
    this.blank = false;
  }

  private code(language: string): void {
    this.blocks.push({ kind: 'code', text: this.lines.join('\n'), language });
    this.lines = [];
  }
}
