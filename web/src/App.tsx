// The page: puts the parts together, and has the keys that work everywhere.
import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import { Chats } from './chats';
import { Composer } from './Composer';
import type { ComposerHandle } from './Composer';
import { DownIcon } from './icons';
import { KeyPrompt } from './KeyPrompt';
import { MessageView } from './MessageView';
import { Notices } from './Notices';
import { Sidebar } from './Sidebar';
import { chatStorage, openChat } from './storage';
import { ask } from './stream';
import { text } from './text';
import { TopBar } from './TopBar';
import type { PageConfig } from './types';
import { useFollow } from './useFollow';
import { useService } from './useService';
import type { Service } from './useService';

const UNDO_MS = 10_000;
const HEARTBEATS_MISSED = 3;

/** The one state of all chats, for as long as the page lives. */
function useChats(service: Service) {
  const latest = useRef(service);
  latest.current = service;
  const [chats] = useState(
    () =>
      new Chats(
        {
          storage: chatStorage,
          ask,
          key: () => latest.current.key,
          model: (chosen) => (chosen !== null && latest.current.models.includes(chosen) ? chosen : null),
          silenceMs: () => latest.current.config.heartbeatSeconds * 1000 * HEARTBEATS_MISSED,
          failed: (failure) => latest.current.noteFailure(failure),
        },
        openChat.read(),
      ),
  );
  const view = useSyncExternalStore(chats.subscribe, chats.current);
  useEffect(() => {
    const leave = () => chats.leave();
    window.addEventListener('pagehide', leave);
    const unwatch = chatStorage.watch((id) => chats.changedElsewhere(id));
    return () => {
      window.removeEventListener('pagehide', leave);
      unwatch();
    };
  }, [chats]);
  useEffect(() => {
    openChat.write(view.chat.id);
  }, [view.chat.id]);
  useEffect(() => {
    if (!view.removed) return;
    const timer = setTimeout(() => chats.forgetRemoved(), UNDO_MS);
    return () => clearTimeout(timer);
  }, [chats, view.removed]);
  return { chats, view };
}

export function App() {
  const service = useService();
  const { chats, view } = useChats(service);
  const composer = useRef<ComposerHandle>(null);
  const [sidebarShown, setSidebarShown] = useState(false);
  const { scroller, content, detached, follow } = useFollow();
  const { chat } = view;
  const running = view.running.has(chat.id);
  const locked = ['missing', 'wrong', 'checking', 'unchecked'].includes(service.keyState);

  const actions = useMemo(() => {
    const asked = (taken: boolean) => {
      if (!taken) return false;
      follow(true);
      // The button that was pressed is gone. Where there is no keyboard, none is to pop up.
      if (matchMedia('(hover: hover)').matches) composer.current?.focus();
      return true;
    };
    return {
      send: (value: string) => asked(chats.send(value)),
      retry: (id: string) => asked(chats.retry(id)),
      edit: (id: string, value: string) => asked(chats.edit(id, value)),
    };
  }, [chats, follow]);
  const list = useMemo(() => {
    const then = (act: () => void) => {
      act();
      setSidebarShown(false);
      composer.current?.focus();
    };
    return {
      open: (id: string) => then(() => chats.open(id)),
      create: () => then(() => chats.create()),
      remove: (id: string) => chats.remove(id),
      close: () => setSidebarShown(false),
    };
  }, [chats]);
  useKeys({ stop: () => chats.stop(), create: list.create, focus: () => composer.current?.focus(), close: list.close });
  useEffect(() => follow(true), [chat.id, follow]);
  useEffect(() => {
    document.title = service.config.title || text.untitled;
  }, [service.config.title]);
  const sent = useMemo(
    () => chat.messages.flatMap((message) => (message.role === 'user' ? [message.content] : [])),
    [chat.messages],
  );
  const noticeActions = useMemo(
    () => ({
      saveAgain: () => chats.saveAgain(),
      undoRemove: () => chats.undoRemove(),
      forgetRemoved: () => chats.forgetRemoved(),
    }),
    [chats],
  );

  return (
    <div className="page">
      <Sidebar title={service.config.title} entries={view.entries} openId={chat.id} shown={sidebarShown} {...list} />
      {sidebarShown && <div className="shade" onClick={list.close} />}
      <main>
        <TopBar
          chat={chat}
          models={service.models}
          sidebarShown={sidebarShown}
          showSidebar={() => setSidebarShown(true)}
          setModel={(model) => chats.setModel(model)}
          forgetKey={service.keyState === 'ok' && service.key ? service.forgetKey : null}
        />
        <div className="scroller" ref={scroller} tabIndex={0} role="region" aria-label={text.conversation}>
          <div className="column" ref={content}>
            {chat.messages.length === 0 ? (
              <Welcome config={service.config} choose={locked ? undefined : actions.send} />
            ) : (
              chat.messages.map((message) => (
                <MessageView key={message.id} message={message} chatId={chat.id} busy={running} actions={actions} />
              ))
            )}
          </div>
        </div>
        <footer className="bottom">
          {detached && (
            <button type="button" className="jump" onClick={() => follow(true)}>
              <DownIcon />
              <span>{text.jump}</span>
            </button>
          )}
          <Notices service={service} view={view} actions={noticeActions} />
          {locked && <KeyPrompt state={service.keyState} give={service.giveKey} />}
          <div hidden={locked}>
            <Composer
              ref={composer}
              chatId={chat.revision === '' && chat.messages.length === 0 ? 'new' : chat.id}
              running={running}
              sent={sent}
              disabled={locked}
              send={actions.send}
              stop={() => chats.stop()}
            />
          </div>
        </footer>
      </main>
      <div className="off-screen" role="status">
        {view.said}
      </div>
    </div>
  );
}

function Welcome({ config, choose }: { config: PageConfig; choose: ((prompt: string) => void) | undefined }) {
  return (
    <div className="welcome">
      <p className="greeting">{config.greeting || text.defaultGreeting}</p>
      <ul>
        {config.suggestions.map((prompt) => (
          <li key={prompt}>
            <button type="button" disabled={!choose} onClick={() => choose?.(prompt)}>
              {prompt}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface Keys {
  stop(): void;
  create(): void;
  focus(): void;
  close(): void;
}

/** Never Alt: it writes characters on many keyboards. */
function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.isComposing || event.altKey || event.defaultPrevented) return;
      const writing = event.target instanceof Element && event.target.matches('input, textarea, select');
      if (event.key === 'Escape') {
        latest.current.stop();
        latest.current.close();
      } else if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === 'o') {
        event.preventDefault();
        latest.current.create();
      } else if (event.key === '/' && !writing && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        latest.current.focus();
      }
    };
    window.addEventListener('keydown', pressed);
    return () => window.removeEventListener('keydown', pressed);
  }, []);
}
