// One message of a conversation. Drawn again only when it changes.
import { memo, useEffect, useRef, useState } from 'react';
import { AnswerText } from './AnswerText';
import { useDraft, isComposing, useGrowing } from './Composer';
import { CopyButton } from './CopyButton';
import { EditIcon, RetryIcon } from './icons';
import { drafts } from './storage';
import { text } from './text';
import type { Failure, Message } from './types';

export interface Actions {
  retry(id: string): boolean;
  edit(id: string, content: string): boolean;
}

interface Properties {
  message: Message;
  chatId: string;
  /** An answer is running in this chat: nothing can be asked again. */
  busy: boolean;
  actions: Actions;
}

export const MessageView = memo(function MessageView(properties: Properties) {
  return properties.message.role === 'user' ? <Question {...properties} /> : <Answer {...properties} />;
});

const LONG_LINES = 24;
const LONG_CHARACTERS = 3000;

function Question({ message, chatId, busy, actions }: Properties) {
  const [editing, setEditing] = useState(false);
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const { content } = message;
  const long = content.length > LONG_CHARACTERS || content.split('\n', LONG_LINES + 1).length > LONG_LINES;
  if (editing) {
    const close = () => setEditing(false);
    return <Editor message={message} name={`${chatId}/${message.id}`} busy={busy} actions={actions} close={close} />;
  }
  return (
    <article className="question" aria-label={text.you}>
      <div className="said">{long && !open ? short(content) : content}</div>
      <div className="actions">
        {long && (
          <button type="button" className="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>
            {open ? text.showLess : text.showAll}
          </button>
        )}
        <button ref={button} type="button" className="quiet" disabled={busy} onClick={() => setEditing(true)}>
          <EditIcon />
          <span>{text.edit}</span>
        </button>
        <CopyButton value={content} label={text.copy} />
      </div>
    </article>
  );
}

function short(content: string): string {
  return `${content.split('\n', LONG_LINES).join('\n').slice(0, LONG_CHARACTERS)}…`;
}

function Editor({ message, name, busy, actions, close }: Omit<Properties, 'chatId'> & { name: string; close(): void }) {
  const [value, setValue] = useDraft(name, message.content);
  const area = useRef<HTMLTextAreaElement>(null);
  useGrowing(area, value);
  useEffect(() => area.current?.setSelectionRange(-1, -1), []);
  const cancel = () => {
    drafts.write(name, '');
    close();
  };
  const submit = () => {
    if (busy || !actions.edit(message.id, value)) return;
    cancel();
  };
  return (
    <form
      className="editor"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => {
        if (isComposing(event)) return;
        if (event.key === 'Escape') {
          event.stopPropagation();
          cancel();
        } else if (event.key === 'Enter' && !event.shiftKey && event.target === area.current) {
          event.preventDefault();
          submit();
        }
      }}
    >
      <textarea
        ref={area}
        value={value}
        aria-label={text.editing}
        onChange={(event) => setValue(event.target.value)}
        autoFocus
      />
      <p className="hint">{text.editHint}</p>
      <div className="buttons">
        <button type="button" onClick={cancel}>
          {text.cancel}
        </button>
        <button type="submit" className="primary" disabled={busy || value.trim() === ''}>
          {text.send}
        </button>
      </div>
    </form>
  );
}

function Answer({ message, busy, actions }: Properties) {
  const { id, content, state, failure, model, fallback } = message;
  const streaming = state === 'streaming';
  return (
    <article className="answer" aria-label={model ?? text.assistant} aria-busy={streaming}>
      <header>
        <span className="model">{model ?? (streaming ? text.answering : text.assistant)}</span>
        {fallback && (
          <span className="badge" title={fallback}>
            {text.fallback(fallback)}
          </span>
        )}
      </header>
      {content !== '' && <AnswerText source={content} streaming={streaming} />}
      {streaming && content === '' && <Waiting />}
      {state === 'complete' && content.trim() === '' && <p className="note">{text.emptyAnswer}</p>}
      {state === 'stopped' && <p className="note">{text.stopped}</p>}
      {message.cutByLength && <p className="note">{text.cutByLength}</p>}
      {failure && <Failed failure={failure} busy={busy} retry={() => actions.retry(id)} />}
      {!streaming && (
        <div className="actions">
          {content !== '' && <CopyButton value={content} label={text.copy} />}
          {!failure && (
            <button type="button" className="quiet" disabled={busy} onClick={() => actions.retry(id)}>
              <RetryIcon />
              <span>{text.retry}</span>
            </button>
          )}
        </div>
      )}
    </article>
  );
}

function Waiting() {
  return (
    <div className="waiting" aria-hidden="true">
      <i />
      <i />
      <i />
    </div>
  );
}

function Failed({ failure, busy, retry }: { failure: Failure; busy: boolean; retry(): void }) {
  const left = useCountdown(failure.retryAt);
  return (
    <div className="failure" role="group" aria-label={text.failed}>
      <p>{failure.message}</p>
      {failure.requestId && (
        <p className="id">
          {text.requestId} <code>{failure.requestId}</code>
        </p>
      )}
      <button type="button" disabled={busy || left > 0} onClick={retry}>
        <RetryIcon />
        <span>{left > 0 ? text.retryIn(left) : text.retry}</span>
      </button>
    </div>
  );
}

/** Whole seconds until then; 0 when it is over. */
function useCountdown(until: number | null): number {
  const [now, setNow] = useState(Date.now);
  const left = until === null ? 0 : Math.max(0, Math.ceil((until - now) / 1000));
  const running = left > 0;
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [running]);
  return left;
}
