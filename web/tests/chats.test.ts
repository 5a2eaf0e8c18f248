import { beforeEach, describe, expect, it, vi } from 'vitest';
import { Chats, emptyChat, recent } from '../src/chats';
import type { Surroundings } from '../src/chats';
import type { Trouble } from '../src/storage';
import type { Piece } from '../src/stream';
import type { Chat, Message } from '../src/types';

class Memory {
  readonly kept = new Map<string, Chat>();
  trouble: Trouble | null = null;
  entries = () => [...this.kept.values()].map(({ id, title, updated }) => ({ id, title, updated }));
  chat = (id: string) => this.kept.get(id) ?? null;
  revision = (id: string) => this.kept.get(id)?.revision ?? null;
  save = (chat: Chat) => {
    if (!this.trouble) this.kept.set(chat.id, chat);
    return this.trouble;
  };
  remove = (id: string) => void this.kept.delete(id);
}

interface Running {
  take(piece: Piece): void;
  end(): void;
  fail(error: unknown): void;
}

let storage: Memory;
let answers: Running[];

function chats(open: string | null = null): Chats {
  const outside: Surroundings = {
    storage,
    ask: ({ signal }, take) =>
      new Promise<void>((end, fail) => {
        signal.addEventListener('abort', () => fail(new Error('aborted')));
        answers.push({ take, end, fail });
      }),
    key: () => null,
    model: (chosen) => chosen,
    silenceMs: () => 1000,
    failed: () => undefined,
  };
  return new Chats(outside, open);
}

const turn = () => new Promise((done) => setTimeout(done, 0));
const contents = (chat: Chat | undefined) => chat?.messages.map((message) => message.content);

beforeEach(() => {
  storage = new Memory();
  answers = [];
});

describe('recent', () => {
  const message = (content: string, n = 0): Message => ({ id: `${n}`, role: 'user', content, at: n, state: 'complete' });

  it('takes the newest hundred', () => {
    const all = Array.from({ length: 300 }, (_, n) => message(`${n}`, n));
    expect(recent(all).map(({ content }) => content)).toEqual(all.slice(200).map(({ content }) => content));
  });

  it('takes no more than a request may carry, but always the newest', () => {
    const large = 'é'.repeat(700_000);
    expect(recent([message(large), message(large), message(large)])).toHaveLength(2);
    expect(recent([message('a'), message('"'.repeat(4_000_000))])).toHaveLength(1);
  });

  it('leaves out what says nothing', () => {
    expect(recent([message('a'), message(''), message('b')])).toHaveLength(2);
  });
});

describe('chats', () => {
  it('keep a question before its answer has begun', () => {
    const state = chats();
    expect(state.send('precious')).toBe(true);
    expect(contents([...storage.kept.values()][0])).toEqual(['precious', '']);
  });

  it('do not take a second question while an answer runs', async () => {
    const state = chats();
    state.send('one');
    expect(state.send('two')).toBe(false);
    answers[0]?.end();
    await turn();
    expect(state.send('two')).toBe(true);
  });

  it('go on as a copy when another tab has changed the chat', async () => {
    const state = chats();
    state.send('one');
    answers[0]?.end();
    await turn();
    const { id } = state.current().chat;
    storage.kept.set(id, { ...(storage.kept.get(id) ?? emptyChat()), title: 'other', revision: 'theirs' });
    state.send('two');
    answers[1]?.take({ content: 'half' });
    answers[1]?.end();
    await turn();
    expect(state.current().forked).toBe(true);
    expect(state.current().running.size).toBe(0);
    expect(storage.kept.get(id)?.title).toBe('other');
    expect(contents(storage.kept.get(state.current().chat.id))).toEqual(['one', '', 'two', 'half']);
  });

  it('that change under a running answer are not mixed', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const state = chats();
    state.send('one');
    const { id } = state.current().chat;
    storage.kept.set(id, { ...(storage.kept.get(id) ?? emptyChat()), title: 'other', revision: 'theirs' });
    state.changedElsewhere(id);
    vi.setSystemTime(Date.now() + 5000);
    answers[0]?.take({ content: 'a' });
    await new Promise((done) => setTimeout(done, 60));
    answers[0]?.take({ content: 'b' });
    answers[0]?.end();
    await turn();
    vi.useRealTimers();
    expect(contents(state.current().chat)).toEqual(['one', 'ab']);
    expect(state.current().chat.messages[1]?.state).toBe('complete');
    expect(storage.kept.size).toBe(2);
  });

  it('that could not be kept are kept once there is room', async () => {
    storage.trouble = 'full';
    const state = chats();
    state.send('one');
    answers[0]?.end();
    await turn();
    expect(state.current().trouble).toBe('full');
    expect(state.current().entries).toHaveLength(1);
    storage.trouble = null;
    state.saveAgain();
    expect(state.current().trouble).toBe(null);
    expect(storage.kept.size).toBe(1);
  });

  it('say of an answer that ran when the page was closed that it is not complete', () => {
    const first = chats();
    first.send('one');
    const { id } = first.current().chat;
    const second = chats(id);
    expect(second.current().chat.messages[1]).toMatchObject({ state: 'failed', failure: { code: 'page_closed' } });
  });

  it('show an answer that runs in another tab as running', () => {
    const here = chats();
    here.send('one');
    answers[0]?.end();
    const { id } = here.current().chat;
    const other = chats(id);
    const changed = { ...(storage.kept.get(id) ?? emptyChat()), revision: 'new' };
    const running: Message = { id: 'x', role: 'assistant', content: 'half', at: 1, state: 'streaming' };
    storage.kept.set(id, { ...changed, messages: [...changed.messages, running] });
    other.changedElsewhere(id);
    expect(other.current().chat.messages.at(-1)?.state).toBe('streaming');
  });
});
