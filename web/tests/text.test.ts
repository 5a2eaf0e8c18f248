import hljs from 'highlight.js/lib/core';
import { describe, expect, it } from 'vitest';
import { asJson, asMarkdown, fileName } from '../src/export';
import { highlight } from '../src/highlight';
import { bytes, span } from '../src/text';
import { tokensOf } from '../src/tokens';
import type { Chat } from '../src/types';

const CHAT: Chat = {
  id: 'c',
  title: 'Ünïcode / "title"?',
  updated: 1,
  model: null,
  revision: 'r',
  messages: [
    { id: 'a', role: 'user', content: 'question', at: 1, state: 'complete' },
    {
      id: 'b',
      role: 'assistant',
      content: 'half',
      at: 2,
      state: 'failed',
      model: 'mock',
      fallback: 'EngineDown',
      failure: { message: 'It broke.', code: 'x', status: 0, requestId: 'id-1', retryAt: null },
    },
  ],
};

describe('tokens', () => {
  const code = `<script>alert("x & y")</script> // é\nconst a = \`\${b}\`;`;

  it.each(hljs.listLanguages())('of %s lose not one character and hold no HTML', (language) => {
    const tokens = highlight(code, language) ?? [];
    expect(tokens.map((token) => token.text).join('')).toBe(code);
    for (const { kind } of tokens) expect(kind).toMatch(/^[\w -]*$/);
  });

  it('of an unknown language are none', () => {
    expect(highlight('x', 'klingon')).toBe(null);
  });

  it('know nested spans', () => {
    expect(tokensOf('<span class="a">x<span class="b c">&lt;</span></span>&amp;lt;')).toEqual([
      { text: 'x', kind: 'a' },
      { text: '<', kind: 'a b c' },
      { text: '&lt;', kind: '' },
    ]);
  });
});

describe('an export', () => {
  it('says who answered, that it was a stand-in, and what failed', () => {
    const markdown = asMarkdown(CHAT);
    for (const part of ['## You', 'question', '## mock', 'Stand-in answer: the engine is down', 'It broke.', 'id-1', 'half']) {
      expect(markdown).toContain(part);
    }
    expect(JSON.parse(asJson(CHAT))).toMatchObject({ format: 'chatbot-chat/1', messages: CHAT.messages });
  });

  it('has a name that every file system takes', () => {
    expect(fileName(CHAT, 'md')).toMatch(/^[\p{L}\p{N}\p{M}-]+\.md$/u);
    expect(fileName({ ...CHAT, title: '../..' }, 'md')).toBe('chat.md');
    expect(fileName({ ...CHAT, title: 'x'.repeat(500) }, 'json')).toHaveLength(55);
  });
});

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [123_456_789, '123 MB'],
    [2_500_000_000_000_000, '2500 TB'],
  ])('%d bytes', (count, shown) => {
    expect(bytes(count)).toBe(shown);
  });

  it.each([
    [0, '1 s'],
    [59, '59 s'],
    [90, '2 min'],
    [7300, '2 h 2 min'],
  ])('%d seconds', (seconds, shown) => {
    expect(span(seconds)).toBe(shown);
  });
});
