// What stands above a conversation: its title, the models, export, theme.
import { useEffect, useState } from 'react';
import { saveFile } from './browser';
import { asJson, asMarkdown, fileName } from './export';
import { AutoIcon, ExportIcon, MenuIcon, MoonIcon, SunIcon } from './icons';
import { preferences } from './storage';
import { text } from './text';
import type { Chat } from './types';

interface Properties {
  chat: Chat;
  models: readonly string[];
  sidebarShown: boolean;
  showSidebar(): void;
  setModel(model: string): void;
  forgetKey: (() => void) | null;
}

export function TopBar({ chat, models, sidebarShown, showSidebar, setModel, forgetKey }: Properties) {
  return (
    <header className="top">
      <button
        type="button"
        className="icon-button narrow-only"
        onClick={showSidebar}
        aria-label={text.openChats}
        aria-expanded={sidebarShown}
        aria-controls="chats"
      >
        <MenuIcon />
      </button>
      <h1>{chat.title}</h1>
      {models.length > 1 && <ModelMenu models={models} chosen={chat.model} choose={setModel} />}
      {forgetKey && (
        <button type="button" className="quiet" onClick={forgetKey}>
          {text.forgetKey}
        </button>
      )}
      {chat.messages.length > 0 && <ExportMenu chat={chat} />}
      <ThemeButton />
    </header>
  );
}

function ModelMenu({ models, chosen, choose }: { models: readonly string[]; chosen: string | null; choose(model: string): void }) {
  const value = chosen !== null && models.includes(chosen) ? chosen : models[0];
  return (
    <label className="model-menu">
      <span className="off-screen">{text.model}</span>
      <select value={value} onChange={(event) => choose(event.target.value)}>
        {models.map((model) => (
          <option key={model}>{model}</option>
        ))}
      </select>
    </label>
  );
}

function ExportMenu({ chat }: { chat: Chat }) {
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      const inside = event.target instanceof Element && event.target.closest('.menu');
      if (!inside || (event instanceof KeyboardEvent && event.key === 'Escape')) setOpen(false);
    };
    document.addEventListener('pointerdown', close);
    document.addEventListener('keydown', close);
    return () => {
      document.removeEventListener('pointerdown', close);
      document.removeEventListener('keydown', close);
    };
  }, [open]);
  const save = (ending: string, content: string, type: string) => {
    saveFile(fileName(chat, ending), content, type);
    setOpen(false);
  };
  return (
    <div className="menu">
      <button
        type="button"
        className="icon-button"
        aria-label={text.export}
        title={text.export}
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        <ExportIcon />
      </button>
      {open && (
        <div className="items">
          <button type="button" onClick={() => save('md', asMarkdown(chat), 'text/markdown')}>
            {text.exportMarkdown}
          </button>
          <button type="button" onClick={() => save('json', asJson(chat), 'application/json')}>
            {text.exportJson}
          </button>
        </div>
      )}
    </div>
  );
}

const THEMES = ['auto', 'light', 'dark'] as const;
type Theme = (typeof THEMES)[number];
const THEME_ICONS = { auto: AutoIcon, light: SunIcon, dark: MoonIcon };

function storedTheme(): Theme {
  const stored = preferences.read('theme');
  return THEMES.find((theme) => theme === stored) ?? 'auto';
}

function ThemeButton() {
  const [theme, setTheme] = useState(storedTheme);
  useEffect(() => {
    document.documentElement.dataset['theme'] = theme;
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'auto';
  const Icon = THEME_ICONS[theme];
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={text.theme[theme]}
      title={text.theme[theme]}
      onClick={() => {
        setTheme(next);
        preferences.write('theme', next);
      }}
    >
      <Icon />
    </button>
  );
}
