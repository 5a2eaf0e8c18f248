// All chats and the answers that are running: the page's whole state, without any screen. React only looks at it.
import { Refused } from './api';
import type { Piece, Question } from './stream';
import type { Trouble } from './storage';
import { text } from './text';
import { newId } from './types';
import type { Chat, ChatEntry, Failure, Message } from './types';

/** What the state keeps chats in, and by what it asks; both are replaced in tests. */
export interface Surroundings {
  storage: {
    entries(): ChatEntry[];
    chat(id: string): Chat | null;
    revision(id: string): string | null;
    save(chat: Chat): Trouble | null;
    remove(id: string): void;
  };
  ask(question: Question, take: (piece: Piece) => void): Promise<void>;
  key(): string | null;
  /** The model to ask for, when this one was chosen: it may be gone. */
  model(chosen: string | null): string | null;
  silenceMs(): number;
  /** An answer failed; the page looks at the chatbot's state. */
  failed(failure: Failure): void;
}

export interface View {
  entries: readonly ChatEntry[];
  chat: Chat;
  /** Ids of chats with a running answer. */
  running: ReadonlySet<string>;
  trouble: Trouble | null;
  removed: Chat | null;
  forked: boolean;
  /** For screen readers. */
  said: string;
}

const FLUSH_MS = 66;
const SAVE_MS = 2000;
const MAX_MESSAGES = 100;
const MAX_BYTES = 3_000_000; // below the 4 MiB that the API takes, with room for escapes
const TITLE_LENGTH = 60;

/** The newest messages that one request can carry; answers without a word are left out. */
export function recent(messages: readonly Message[]): { role: string; content: string }[] {
  const chosen: { role: string; content: string }[] = [];
  let room = MAX_BYTES;
  for (const { role, content } of messages.toReversed()) {
    if (content === '') continue;
    room -= new TextEncoder().encode(JSON.stringify(content)).length + 50;
    if (chosen.length > 0 && (room < 0 || chosen.length === MAX_MESSAGES)) break;
    chosen.push({ role, content });
  }
  return chosen.reverse();
}

export function emptyChat(): Chat {
  return { id: newId(), title: text.newChat, updated: 0, model: null, messages: [], revision: '' };
}

function titleOf(question: string): string {
  const line = question.trim().split('\n')[0] ?? '';
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1).trimEnd()}…` : line;
}

export class Chats {
  private view: View;
  private readonly listeners = new Set<() => void>();
  private readonly loaded = new Map<string, Chat>();
  private readonly running = new Map<string, AbortController>();
  /** Chats whose latest state could not be kept. */
  private readonly unsaved = new Set<string>();

  constructor(
    private readonly outside: Surroundings,
    openId: string | null,
  ) {
    const chat = (openId && this.load(openId)) || emptyChat();
    this.loaded.set(chat.id, chat);
    this.view = {
      entries: outside.storage.entries(),
      chat,
      running: new Set(),
      trouble: null,
      removed: null,
      forked: false,
      said: '',
    };
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly current = (): View => this.view;

  open(id: string): void {
    const chat = this.load(id);
    if (chat) this.show({ chat, forked: false });
    else this.show({ entries: this.entries() });
  }

  create(): void {
    if (this.view.chat.messages.length > 0) this.show({ chat: this.loadedNew(), forked: false });
  }

  /** False if the text was not taken: it is empty, or an answer is running here. */
  send(content: string): boolean {
    const chat = this.view.chat;
    if (content.trim() === '' || this.running.has(chat.id)) return false;
    this.put(this.withQuestion(chat, chat.messages, content));
    void this.answer();
    return true;
  }

  /** Replaces a message of the user's and all that came after it. */
  edit(id: string, content: string): boolean {
    const chat = this.view.chat;
    const at = chat.messages.findIndex((message) => message.id === id);
    if (at < 0 || content.trim() === '' || this.running.has(chat.id)) return false;
    this.put(this.withQuestion(chat, chat.messages.slice(0, at), content));
    void this.answer();
    return true;
  }

  /** Asks again for an answer; what came after it goes. */
  retry(id: string): boolean {
    const chat = this.view.chat;
    const at = chat.messages.findIndex((message) => message.id === id);
    if (at < 0 || this.running.has(chat.id)) return false;
    this.put({ ...chat, messages: chat.messages.slice(0, at) });
    void this.answer();
    return true;
  }

  stop(): void {
    this.running.get(this.view.chat.id)?.abort();
  }

  setModel(model: string): void {
    const chat = { ...this.view.chat, model };
    this.put(chat);
    if (chat.messages.length > 0) this.save(chat.id);
  }

  remove(id: string): void {
    const removed = this.load(id);
    this.running.get(id)?.abort();
    this.loaded.delete(id);
    this.unsaved.delete(id);
    this.outside.storage.remove(id);
    const chat = this.view.chat.id === id ? this.loadedNew() : this.view.chat;
    this.show({ removed, chat, entries: this.entries() });
    this.saveAgain();
  }

  undoRemove(): void {
    const chat = this.view.removed;
    if (!chat) return;
    this.loaded.set(chat.id, { ...chat, revision: '', messages: chat.messages.map(settled) });
    this.open(chat.id);
    this.show({ removed: null });
    this.save(chat.id);
  }

  forgetRemoved(): void {
    this.show({ removed: null });
  }

  /** After storage was full: another try. */
  saveAgain(): void {
    const waiting = [...this.unsaved];
    if (waiting.length === 0) this.show({ trouble: null });
    for (const id of waiting) this.save(id);
  }

  /** Keeps everything that is not yet kept: the page is about to go. */
  leave(): void {
    for (const id of [...this.running.keys(), ...this.unsaved]) {
      const chat = this.loaded.get(id);
      if (chat) this.outside.storage.save({ ...chat, messages: chat.messages.map(settled) });
    }
  }

  /** Another tab has changed a chat. */
  changedElsewhere(id: string | null): void {
    for (const known of id === null ? [...this.loaded.keys()] : [id]) {
      // What runs here, or is not kept, is not given up for what another tab has.
      if (this.running.has(known) || this.unsaved.has(known)) continue;
      this.loaded.delete(known);
      if (known === this.view.chat.id && this.view.chat.revision !== '') {
        this.show({ chat: this.load(known, (message) => message) ?? this.loadedNew() });
      }
    }
    this.loaded.set(this.view.chat.id, this.view.chat);
    this.show({ entries: this.entries() });
  }

  private withQuestion(chat: Chat, messages: readonly Message[], content: string): Chat {
    const at = Date.now();
    const question: Message = { id: newId(), role: 'user', content, at, state: 'complete' };
    const title = messages.length === 0 ? titleOf(content) : chat.title;
    return { ...chat, title, updated: at, messages: [...messages, question] };
  }

  /** Asks for an answer to the current chat as it is. The chat may be left meanwhile. */
  private async answer(): Promise<void> {
    const { id: first, messages, model } = this.view.chat;
    const message: Message = { id: newId(), role: 'assistant', content: '', at: Date.now(), state: 'streaming' };
    const abort = new AbortController();
    this.append(first, message);
    this.running.set(first, abort);
    // A chat that goes on as a copy has a new id from then on.
    let id = this.save(first);
    this.show({ running: new Set(this.running.keys()), said: text.answering });
    const writer = new Writer(
      (piece) => this.apply(id, message.id, piece),
      () => (id = this.save(id)),
    );
    let end: Partial<Message> = { state: 'complete' };
    try {
      const question = {
        messages: recent(messages),
        model: this.outside.model(model),
        key: this.outside.key(),
        requestId: newId(),
        silenceMs: this.outside.silenceMs(),
        signal: abort.signal,
      };
      await this.outside.ask(question, (piece) => writer.take(piece));
    } catch (error) {
      end = abort.signal.aborted ? { state: 'stopped' } : { state: 'failed', failure: failureFrom(error) };
    }
    writer.end();
    this.finish(id, message.id, end);
  }

  private finish(id: string, messageId: string, end: Partial<Message>): void {
    this.running.delete(id);
    this.change(id, messageId, (message) => ({ ...message, ...end }));
    if (this.loaded.has(id)) this.save(id);
    const said = end.state === 'complete' ? text.ready : end.state === 'stopped' ? text.stopped : text.failed;
    this.show({ running: new Set(this.running.keys()), said: id === this.view.chat.id ? said : this.view.said });
    if (end.failure) this.outside.failed(end.failure);
  }

  private apply(id: string, messageId: string, piece: Piece): void {
    this.change(id, messageId, (message) => ({
      ...message,
      content: message.content + (piece.content ?? ''),
      model: piece.model ?? message.model,
      fallback: piece.fallback ?? message.fallback,
      requestId: piece.requestId ?? message.requestId,
      cutByLength: piece.cutByLength ?? message.cutByLength,
    }));
  }

  private append(id: string, message: Message): void {
    const chat = this.loaded.get(id);
    if (chat) this.put({ ...chat, messages: [...chat.messages, message] });
  }

  private change(id: string, messageId: string, changed: (message: Message) => Message): void {
    const chat = this.loaded.get(id);
    if (!chat) return;
    const messages = chat.messages.map((message) => (message.id === messageId ? changed(message) : message));
    this.put({ ...chat, messages });
  }

  /** A new state of a chat, in memory. */
  private put(chat: Chat): void {
    this.loaded.set(chat.id, chat);
    if (chat.id === this.view.chat.id) this.show({ chat });
  }

  /** Keeps a chat; gives its id, which is a new one if another tab has changed the chat meanwhile. */
  private save(id: string): string {
    let chat = this.loaded.get(id);
    if (!chat) return id;
    const kept = this.outside.storage.revision(id);
    if (kept !== null && kept !== chat.revision) chat = this.fork(chat);
    chat = { ...chat, revision: newId() };
    const trouble = this.outside.storage.save(chat);
    if (trouble) this.unsaved.add(chat.id);
    else this.unsaved.delete(chat.id);
    this.put(chat);
    this.show({ entries: this.entries(), trouble: trouble ?? (this.unsaved.size > 0 ? this.view.trouble : null) });
    return chat.id;
  }

  private fork(chat: Chat): Chat {
    const copy = { ...chat, id: newId() };
    const abort = this.running.get(chat.id);
    this.running.delete(chat.id);
    if (abort) this.running.set(copy.id, abort);
    this.loaded.delete(chat.id);
    this.loaded.set(copy.id, copy);
    if (this.view.chat.id === chat.id) this.show({ chat: copy, forked: true });
    return copy;
  }

  private load(id: string, mended: (message: Message) => Message = settled): Chat | null {
    const known = this.loaded.get(id);
    if (known) return known;
    const chat = this.outside.storage.chat(id);
    if (!chat) return null;
    const whole = { ...chat, messages: chat.messages.map(mended) };
    this.loaded.set(id, whole);
    return whole;
  }

  private loadedNew(): Chat {
    const chat = { ...emptyChat(), model: this.view.chat.model };
    this.loaded.set(chat.id, chat);
    return chat;
  }

  /** What is kept, and what could not be. */
  private entries(): ChatEntry[] {
    const kept = this.outside.storage.entries();
    const ids = new Set(kept.map((entry) => entry.id));
    const others = [...this.loaded.values()].filter((chat) => chat.messages.length > 0 && !ids.has(chat.id));
    return [...kept, ...others].sort((a, b) => b.updated - a.updated);
  }

  private show(change: Partial<View>): void {
    this.view = { ...this.view, ...change };
    for (const listener of this.listeners) listener();
  }
}

/** Collects pieces, so that a fast answer is drawn fifteen times a second and not a thousand times. */
class Writer {
  private waiting: Piece | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private saved = Date.now();

  constructor(
    private readonly write: (piece: Piece) => void,
    private readonly save: () => void,
  ) {}

  take(piece: Piece): void {
    const before = this.waiting ?? {};
    this.waiting = {
      content: (before.content ?? '') + (piece.content ?? ''),
      model: piece.model ?? before.model,
      fallback: piece.fallback ?? before.fallback,
      requestId: piece.requestId ?? before.requestId,
      cutByLength: piece.cutByLength ?? before.cutByLength,
    };
    this.timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  end(): void {
    clearTimeout(this.timer);
    this.flush();
  }

  private flush(): void {
    this.timer = undefined;
    if (this.waiting) this.write(this.waiting);
    this.waiting = null;
    if (Date.now() - this.saved < SAVE_MS) return;
    this.save();
    this.saved = Date.now();
  }
}

/** An answer that was running when the page was closed is not running any more. */
function settled(message: Message): Message {
  if (message.state !== 'streaming') return message;
  const failure: Failure = {
    message: text.reloaded,
    code: 'page_closed',
    status: 0,
    requestId: message.requestId ?? '',
    retryAt: null,
  };
  return { ...message, state: 'failed', failure };
}

function failureFrom(error: unknown): Failure {
  if (error instanceof Refused) return error.failure;
  return { message: String(error), code: 'page_error', status: 0, requestId: '', retryAt: null };
}
