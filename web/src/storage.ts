// What the browser keeps. Every access may fail (full, forbidden, damaged); callers are told and go on without.
import type { Chat, ChatEntry, Message } from './types';

/** Raised when the shape of what is kept changes. */
const PREFIX = 'chatbot/1/';
const ENTRY = `${PREFIX}entry/`;
const CHAT = `${PREFIX}chat/`;
const DRAFT = `${PREFIX}draft/`;

export type Trouble = 'full' | 'forbidden';

/** `localStorage` or `sessionStorage`; reading the property alone throws where storage is forbidden. */
function area(name: 'localStorage' | 'sessionStorage'): Storage | null {
  try {
    return window[name];
  } catch {
    return null;
  }
}

function read(storage: Storage | null, key: string): string | null {
  try {
    return storage?.getItem(key) ?? null;
  } catch {
    return null;
  }
}

function write(storage: Storage | null, key: string, value: string): Trouble | null {
  if (!storage) return 'forbidden';
  try {
    if (value === '') storage.removeItem(key);
    else storage.setItem(key, value);
    return null;
  } catch (error) {
    return error instanceof DOMException && error.name === 'QuotaExceededError' ? 'full' : 'forbidden';
  }
}

function parsed(value: string | null): unknown {
  try {
    return value === null ? null : JSON.parse(value);
  } catch {
    return null;
  }
}

/** The chats, each under keys of its own, so that two tabs never write over each other's chats. */
export const chatStorage = {
  entries(): ChatEntry[] {
    const storage = area('localStorage');
    const found: ChatEntry[] = [];
    for (const key of keysOf(storage)) {
      if (!key.startsWith(ENTRY)) continue;
      const entry = parsed(read(storage, key)) as ChatEntry | null;
      if (typeof entry?.id === 'string' && typeof entry.title === 'string') found.push(entry);
    }
    return found.sort((a, b) => b.updated - a.updated);
  },

  chat(id: string): Chat | null {
    const chat = parsed(read(area('localStorage'), CHAT + id)) as Chat | null;
    if (chat?.id !== id || !Array.isArray(chat.messages)) return null;
    return { ...chat, messages: chat.messages.filter(isMessage) };
  },

  revision(id: string): string | null {
    return (parsed(read(area('localStorage'), ENTRY + id)) as Chat | null)?.revision ?? null;
  },

  save(chat: Chat): Trouble | null {
    const storage = area('localStorage');
    const { id, title, updated, revision } = chat;
    const entry: ChatEntry & Pick<Chat, 'revision'> = { id, title, updated, revision };
    return (
      write(storage, CHAT + chat.id, JSON.stringify(chat)) ?? write(storage, ENTRY + chat.id, JSON.stringify(entry))
    );
  },

  remove(id: string): void {
    write(area('localStorage'), CHAT + id, '');
    write(area('localStorage'), ENTRY + id, '');
  },

  /** Calls back when another tab has changed a chat; null: anything. */
  watch(changed: (id: string | null) => void): () => void {
    const listen = (event: StorageEvent) => {
      if (event.key === null) changed(null);
      else if (event.key.startsWith(CHAT)) changed(event.key.slice(CHAT.length));
      else if (event.key.startsWith(ENTRY)) changed(event.key.slice(ENTRY.length));
    };
    window.addEventListener('storage', listen);
    return () => window.removeEventListener('storage', listen);
  },
};

function keysOf(storage: Storage | null): string[] {
  try {
    return storage ? Object.keys(storage) : [];
  } catch {
    return [];
  }
}

function isMessage(value: unknown): value is Message {
  const message = value as Message | null;
  return typeof message?.id === 'string' && typeof message.content === 'string' && typeof message.role === 'string';
}

/** Unsent text. This tab's own comes first; another tab's last is better than none after the tab was closed. */
export const drafts = {
  read: (name: string) => read(area('sessionStorage'), DRAFT + name) ?? read(area('localStorage'), DRAFT + name) ?? '',
  write: (name: string, value: string) => {
    write(area('sessionStorage'), DRAFT + name, value);
    write(area('localStorage'), DRAFT + name, value);
  },
};

/** The API key: for this tab only, and never in an address. */
export const keyStorage = {
  read: () => read(area('sessionStorage'), `${PREFIX}key`),
  write: (key: string) => write(area('sessionStorage'), `${PREFIX}key`, key),
};

/** Small settings of the page: theme, last model. */
export const preferences = {
  read: (name: string) => read(area('localStorage'), `${PREFIX}${name}`),
  write: (name: string, value: string) => write(area('localStorage'), `${PREFIX}${name}`, value),
};

/** Which chat this tab showed last, so that a reload shows it again. */
export const openChat = {
  read: () => read(area('sessionStorage'), `${PREFIX}open`),
  write: (id: string) => write(area('sessionStorage'), `${PREFIX}open`, id),
};
