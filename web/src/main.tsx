// Starts the page. If drawing it fails as a whole, it says so and offers a reload: chats are kept.
import { Component } from 'react';
import type { ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import { loadMarkdown } from './AnswerText';
import { App } from './App';
import './style.css';
import { text } from './text';

class Whole extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError(): { broken: boolean } {
    return { broken: true };
  }

  override render(): ReactNode {
    if (!this.state.broken) return this.props.children;
    return (
      <main className="broken">
        <p>{text.broken}</p>
        <button type="button" className="primary" onClick={() => location.reload()}>
          {text.reload}
        </button>
      </main>
    );
  }
}

const root = document.getElementById('root');
if (root) {
  // Caught and shown as plain text: see Markdown.tsx.
  createRoot(root, { onCaughtError: (error) => console.warn(error) }).render(
    <Whole>
      <App />
    </Whole>,
  );
  void loadMarkdown().catch(() => undefined); // by now the page is on its way
}
