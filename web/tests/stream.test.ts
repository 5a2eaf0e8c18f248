import { afterEach, describe, expect, it, vi } from 'vitest';
import { failureOf, Refused, retryTime } from '../src/api';
import { ask } from '../src/stream';
import type { Piece } from '../src/stream';

const EVENTS =
  ': ping\n\ndata: {"model":"m","choices":[{"delta":{"role":"assistant","content":""}}],"chatbot":{"phase":"hf","fallback":"RateLimited"}}\n\n' +
  'data: {"model":"m","choices":[{"delta":{"content":"é – 😀"}}]}\r\n\r\ndata: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n' +
  'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n';

function answer(...parts: Uint8Array[]): void {
  const body = new ReadableStream({
    start(out) {
      for (const part of parts) out.enqueue(part);
      out.close();
    },
  });
  const headers = { 'content-type': 'text/event-stream', 'x-request-id': 'theirs' };
  vi.stubGlobal('fetch', async () => new Response(body, { headers }));
}

async function asked(): Promise<Piece> {
  const signal = new AbortController().signal;
  const whole: Piece = { content: '' };
  const question = { messages: [], model: null, key: null, requestId: 'ours', silenceMs: 1000, signal };
  await ask(question, (piece) => {
    whole.content += piece.content ?? '';
    for (const [name, value] of Object.entries(piece)) {
      if (name !== 'content' && value !== undefined) Object.assign(whole, { [name]: value });
    }
  });
  return whole;
}

afterEach(() => vi.unstubAllGlobals());

describe('ask', () => {
  it('reads a stream that is cut at any byte', async () => {
    const bytes = new TextEncoder().encode(EVENTS);
    for (let at = 0; at <= bytes.length; at += 1) {
      answer(bytes.slice(0, at), bytes.slice(at));
      expect(await asked()).toEqual({
        content: 'é – 😀',
        model: 'm',
        fallback: 'RateLimited',
        requestId: 'theirs',
        cutByLength: true,
      });
    }
  });

  it('takes a stream for broken unless its end has come', async () => {
    const bytes = new TextEncoder().encode(EVENTS);
    for (let end = 0; end < bytes.length - 'data: [DONE]\n\n'.length; end += 7) {
      answer(bytes.slice(0, end));
      await expect(asked()).rejects.toMatchObject({ failure: { code: 'connection_closed', requestId: 'theirs' } });
    }
  });
});

describe('a refusal', () => {
  it.each<[string | null, number | null]>([
    [null, null],
    ['', null],
    ['7', 8000],
    ['0', 1000],
    ['7, 5', 8000],
    ['-7', null],
    ['Thu, 01 Jan 1970 00:00:09 GMT', 9000],
    ['soon', null],
  ])('with Retry-After %j', (header, time) => {
    expect(retryTime(header, 1000)).toBe(time);
  });

  it('without a word of its own gets ours', async () => {
    for (const body of ['', '<html>', '[]', 'null', '{"error":"text"}', '{"error":{"message":7}}']) {
      const failure = await failureOf(new Response(body, { status: 502 }), 'ours');
      expect(failure).toMatchObject({ code: '502', requestId: 'ours', status: 502 });
      expect(failure.message).toContain('502');
      expect(new Refused(failure).message).toBe(failure.message);
    }
  });
});
