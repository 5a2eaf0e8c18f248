// The list of chats. On a narrow screen it lies over the conversation.
import { memo } from 'react';
import { CloseIcon, NewIcon, TrashIcon } from './icons';
import { text } from './text';
import type { ChatEntry } from './types';

interface Properties {
  title: string;
  entries: readonly ChatEntry[];
  openId: string;
  shown: boolean;
  open(id: string): void;
  create(): void;
  remove(id: string): void;
  close(): void;
}

export const Sidebar = memo(function Sidebar(properties: Properties) {
  const { title, entries, openId, shown, open, create, remove, close } = properties;
  return (
    <nav id="chats" className={shown ? 'sidebar shown' : 'sidebar'} aria-label={text.chats}>
      <div className="brand">
        <span className="name">{title}</span>
        <button type="button" className="icon-button narrow-only" onClick={close} aria-label={text.closeChats}>
          <CloseIcon />
        </button>
      </div>
      <button type="button" className="new" onClick={create} title="Ctrl+Shift+O">
        <NewIcon />
        <span>{text.newChat}</span>
      </button>
      {entries.length === 0 && <p className="hint">{text.noChats}</p>}
      <ul>
        {entries.map((entry) => (
          <li key={entry.id} className={entry.id === openId ? 'current' : undefined}>
            <button
              type="button"
              className="entry"
              aria-current={entry.id === openId ? 'page' : undefined}
              onClick={() => open(entry.id)}
            >
              {entry.title}
            </button>
            <button
              type="button"
              className="icon-button remove"
              aria-label={text.deleteChat(entry.title)}
              onClick={() => remove(entry.id)}
            >
              <TrashIcon />
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
});
