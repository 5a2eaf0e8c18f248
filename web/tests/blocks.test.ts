import { describe, expect, it } from 'vitest';
import { blocksOf } from '../src/blocks';
import type { Block } from '../src/blocks';

const md = (text: string): Block => ({ kind: 'markdown', text });
const code = (text: string, language = ''): Block => ({ kind: 'code', text, language });

/** Without the blank lines at the end of a block, which mean nothing. */
function cut(markdown: string): Block[] {
  return blocksOf(markdown).map((block) => (block.kind === 'markdown' ? md(block.text.replace(/\n+$/, '')) : block));
}

describe('blocksOf', () => {
  it.each<[string, string, Block[]]>([
    ['nothing', '', []],
    ['one paragraph', 'a\nb', [md('a\nb')]],
    ['two paragraphs', 'a\n\nb', [md('a'), md('b')]],
    ['a loose list', '- a\n\n- b\n\nc', [md('- a\n\n- b'), md('c')]],
    ['a numbered list with paragraphs in it', '1. a\n\n   more\n\n2. b', [md('1. a\n\n   more\n\n2. b')]],
    ['a list after blank lines', '\n\n- a\n\n- b', [md('- a\n\n- b')]],
    ['code', 'a\n\n```js\nx\n\ny\n```\n\nb', [md('a'), code('x\n\ny', 'js'), md('b')]],
    ['code right after a paragraph', 'a\n```\nx\n```\nb', [md('a'), code('x'), md('b')]],
    ['code that is not closed', '```py\nx\n', [code('x\n', 'py')]],
    ['a longer fence', '````\n```\n````\nb', [code('```'), md('b')]],
    ['tildes', '~~~ x y\n```\n~~~', [code('```', 'x')]],
    ['an indented fence', '  ```\n  x\n    y\n  ```', [code('x\n  y')]],
    ['a closing fence that is indented too far', '```\nx\n    ```\n', [code('x\n    ```\n')]],
    ['a fence in a list', '- a\n  ```\n  x\n\n  y\n  ```\n- b', [md('- a\n  ```\n  x\n\n  y\n  ```\n- b')]],
    ['a fence in a list with text at the edge', '- ```\n  x\n\n  y\n  ```\n\nb', [md('- ```\n  x\n\n  y\n  ```'), md('b')]],
    ['code in backticks on one line', '```a``` b\n\nc', [md('```a``` b'), md('c')]],
    ['indented code', 'a\n\n    x\n\n    y\n\nb', [md('a\n\n    x\n\n    y'), md('b')]],
    ['a reference', '[a][b]\n\n[b]: https://x.org', [md('[a][b]\n\n[b]: https://x.org')]],
    ['a footnote', 'a[^1]\n\n[^1]: b', [md('a[^1]\n\n[^1]: b')]],
  ])('%s', (_, markdown, blocks) => {
    expect(cut(markdown)).toEqual(blocks);
  });

  it('loses nothing and never changes a block that is complete', () => {
    const text = 'a\n\n```js\nx\n```\n\n- one\n\n- two\n\n> quote\n\nlast';
    const whole = blocksOf(text);
    for (let end = 0; end <= text.length; end += 1) {
      const part = blocksOf(text.slice(0, end));
      expect(part.slice(0, -1)).toEqual(whole.slice(0, Math.max(0, part.length - 1)));
    }
  });
});
