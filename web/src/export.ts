// A chat as a file: Markdown to read, JSON to keep. Who answered, and that it was a stand-in, stays with each answer.
import { text } from './text';
import type { Chat, Message } from './types';

export function asMarkdown(chat: Chat): string {
  return `# ${chat.title}\n\n${chat.messages.map(section).join('\n\n')}\n`;
}

function section(message: Message): string {
  if (message.role === 'user') return `## ${text.you}\n\n${message.content}`;
  const notes = [
    message.fallback && text.fallback(message.fallback),
    message.state === 'stopped' && text.stopped,
    message.failure && `${message.failure.message} (${text.requestId} ${message.failure.requestId})`,
  ].filter(Boolean);
  const parts = [`## ${message.model ?? text.assistant}`, ...notes.map((note) => `> ${note}`), message.content];
  return parts.filter(Boolean).join('\n\n');
}

export function asJson(chat: Chat): string {
  const { title, model, messages } = chat;
  return `${JSON.stringify({ format: 'chatbot-chat/1', title, model, messages }, null, 2)}\n`;
}

/** A name that every file system takes. */
export function fileName(chat: Chat, ending: string): string {
  const base = chat.title.normalize('NFKD').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '');
  return `${base.slice(0, 50) || 'chat'}.${ending}`;
}
