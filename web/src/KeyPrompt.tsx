// Asks for the API key, in place of the composer. The key stays in this tab.
import { useState } from 'react';
import { text } from './text';
import type { KeyState } from './useService';

const PROBLEMS: Partial<Record<KeyState, string>> = { wrong: text.keyWrong, unchecked: text.keyUnchecked };

export function KeyPrompt({ state, give }: { state: KeyState; give(key: string): void }) {
  const [value, setValue] = useState('');
  const problem = PROBLEMS[state];
  return (
    <form
      className="key"
      onSubmit={(event) => {
        event.preventDefault();
        if (value.trim()) give(value.trim());
      }}
    >
      <h2>{text.keyTitle}</h2>
      <label>
        <span>{text.keyLabel}</span>
        <input
          type="password"
          value={value}
          autoComplete="off"
          spellCheck={false}
          aria-invalid={state === 'wrong'}
          aria-describedby="key-hint"
          onChange={(event) => setValue(event.target.value)}
          autoFocus
        />
      </label>
      <button type="submit" className="primary" disabled={value.trim() === '' || state === 'checking'}>
        {text.keyContinue}
      </button>
      <p id="key-hint" className={problem ? 'problem' : 'hint'} role={problem ? 'alert' : undefined}>
        {problem ?? text.keyHint}
      </p>
    </form>
  );
}
