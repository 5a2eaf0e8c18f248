// One question and its streamed answer. It knows neither chats nor screen.
import { createParser } from 'eventsource-parser';
import { failureOf, headersFor, object, Refused, string } from './api';
import { text } from './text';
import type { Failure } from './types';

export interface Question {
  messages: readonly { role: string; content: string }[];
  model: string | null;
  key: string | null;
  /** Of this request, unless the server gives it another. */
  requestId: string;
  /** Longest time without a byte. */
  silenceMs: number;
  signal: AbortSignal;
}

/** What is learnt on the way; each field only when it is known. */
export interface Piece {
  content?: string;
  model?: string;
  fallback?: string;
  requestId?: string;
  cutByLength?: boolean;
}

/** Gives every piece to `take`; returns when the answer is complete, throws Refused if it is not. */
export async function ask(question: Question, take: (piece: Piece) => void): Promise<void> {
  const silence = new Silence(question.silenceMs);
  let known = { id: question.requestId, begun: false };
  try {
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': known.id, ...headersFor(question.key) },
      body: JSON.stringify({ model: question.model ?? '', messages: question.messages, stream: true }),
      signal: AbortSignal.any([question.signal, silence.signal]),
    });
    if (!response.ok) throw new Refused(await failureOf(response, known.id));
    known = { id: response.headers.get('x-request-id') ?? known.id, begun: true };
    take({ requestId: known.id, fallback: response.headers.get('x-chatbot-fallback') ?? undefined });
    if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
      throw refused('not_a_stream', text.notAStream, known.id, response.status);
    }
    await read(response.body, known.id, silence, take);
  } catch (error) {
    if (error instanceof Refused || question.signal.aborted) throw error;
    if (known.begun || silence.signal.aborted) throw refused('connection_closed', text.connectionClosed, known.id);
    throw refused('unreachable', navigator.onLine ? text.unreachable : text.offlineSend, known.id);
  } finally {
    silence.end();
  }
}

async function read(
  body: ReadableStream<Uint8Array>,
  requestId: string,
  silence: Silence,
  take: (piece: Piece) => void,
): Promise<void> {
  let done = false;
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === '[DONE]') done = true;
      else if (!done) take(piece(data, requestId));
    },
  });
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      silence.broken();
      parser.feed(decoder.decode(value, { stream: true }));
      if (done) return;
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
  throw refused('connection_closed', text.connectionClosed, requestId);
}

function piece(data: string, requestId: string): Piece {
  let chunk: Record<string, unknown>;
  try {
    chunk = object(JSON.parse(data));
  } catch {
    throw refused('bad_event', text.badEvent, requestId);
  }
  if (chunk['error']) {
    const error = object(chunk['error']);
    throw refused(string(error['code']) ?? 'error', string(error['message']) ?? text.badEvent, requestId);
  }
  const choice = object((chunk['choices'] as unknown[] | undefined)?.[0]);
  return {
    content: string(object(choice['delta'])['content']),
    model: string(chunk['model']),
    fallback: string(object(chunk['chatbot'])['fallback']),
    cutByLength: choice['finish_reason'] === 'length' ? true : undefined,
  };
}

function refused(code: string, message: string, requestId: string, status = 0): Refused {
  const failure: Failure = { message, code, status, requestId, retryAt: null };
  return new Refused(failure);
}

/** Aborts when nothing has come for too long: the runtime sends a comment at least every ten seconds. */
class Silence {
  private readonly controller = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  readonly signal = this.controller.signal;

  constructor(private readonly ms: number) {
    this.broken();
  }

  broken(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.controller.abort(), this.ms);
  }

  end(): void {
    clearTimeout(this.timer);
  }
}
