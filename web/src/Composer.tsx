// Where one writes. What is written is kept as a draft at every key, and leaves only when it has been taken.
import { useEffect, useImperativeHandle, useLayoutEffect, useRef, useState } from 'react';
import type { KeyboardEvent, Ref } from 'react';
import { SendIcon, StopIcon } from './icons';
import { drafts } from './storage';
import { text } from './text';

export interface ComposerHandle {
  focus(): void;
  insert(value: string): void;
}

interface Properties {
  ref: Ref<ComposerHandle>;
  chatId: string;
  running: boolean;
  /** What the user has sent in this chat, oldest first. */
  sent: readonly string[];
  disabled: boolean;
  send(value: string): boolean;
  stop(): void;
}

export function Composer({ ref, chatId, running, sent, disabled, send, stop }: Properties) {
  const area = useRef<HTMLTextAreaElement>(null);
  const [value, setValue] = useDraft(chatId);
  const recalled = useRef(0);

  useImperativeHandle(ref, () => ({
    focus: () => area.current?.focus(),
    insert: (given) => {
      setValue(given);
      area.current?.focus();
    },
  }));
  useGrowing(area, value);

  const submit = () => {
    if (running || disabled || !send(value)) return;
    recalled.current = 0;
    setValue('');
  };
  const recall = (step: number): boolean => {
    const shown = recalled.current === 0 ? '' : sent.at(-recalled.current);
    const next = recalled.current + step;
    if (value !== shown || next < 0 || next > sent.length) return false;
    recalled.current = next;
    setValue(next === 0 ? '' : (sent.at(-next) ?? ''));
    return true;
  };
  const pressed = (event: KeyboardEvent) => {
    if (isComposing(event)) return;
    const taken =
      (event.key === 'Enter' && !event.shiftKey && (submit(), true)) ||
      (event.key === 'ArrowUp' && !hasModifier(event) && recall(1)) ||
      (event.key === 'ArrowDown' && !hasModifier(event) && recall(-1));
    if (taken) event.preventDefault();
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={area}
        rows={1}
        value={value}
        aria-label={text.message}
        placeholder={text.placeholder}
        onChange={(event) => setValue(event.target.value)}
        onKeyDown={pressed}
        autoFocus
      />
      {running ? (
        <button type="button" className="primary" onClick={stop} aria-label={text.stop} title={`${text.stop} (Esc)`}>
          <StopIcon />
        </button>
      ) : (
        <button
          type="submit"
          className="primary"
          aria-label={text.send}
          title={text.send}
          disabled={disabled || value.trim() === ''}
        >
          <SendIcon />
        </button>
      )}
    </form>
  );
}

/** Unsent text of one chat; another chat has its own. */
export function useDraft(name: string, initial = ''): [string, (value: string) => void] {
  const [state, setState] = useState(() => ({ name, value: drafts.read(name) || initial }));
  const shown = state.name === name ? state : { name, value: drafts.read(name) || initial };
  useEffect(() => setState((before) => (before.name === name ? before : shown)), [name]);
  const set = (value: string) => {
    setState({ name, value });
    drafts.write(name, value);
  };
  return [shown.value, set];
}

/** Enter that ends the choice of a character is no Enter. Safari says so only by the old code. */
export function isComposing(event: KeyboardEvent): boolean {
  return event.nativeEvent.isComposing || event.keyCode === 229;
}

function hasModifier(event: KeyboardEvent): boolean {
  return event.shiftKey || event.ctrlKey || event.metaKey || event.altKey;
}

/** As high as its text. Newer browsers do it by themselves. */
export function useGrowing(area: { current: HTMLTextAreaElement | null }, value: string): void {
  useLayoutEffect(() => {
    const element = area.current;
    if (!element || CSS.supports('field-sizing', 'content')) return;
    element.style.height = 'auto';
    element.style.height = `${element.scrollHeight}px`;
  }, [area, value]);
}
