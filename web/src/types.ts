// What a chat is, in memory, in the browser's storage and in an export. It knows nothing of network or screen.

/** Why a question got no complete answer; it stays with its message. */
export interface Failure {
  message: string;
  code: string;
  /** HTTP status; 0 if there was none. */
  status: number;
  requestId: string;
  /** When another try makes sense, in milliseconds since the epoch. */
  retryAt: number | null;
}

export type MessageState = 'streaming' | 'complete' | 'stopped' | 'failed';

export interface Message {
  id: string;
  role: 'user' | 'assistant';
  content: string;
  at: number;
  state: MessageState;
  /** Who really answered. */
  model?: string;
  /** Why somebody else than the wanted model answered. */
  fallback?: string;
  requestId?: string;
  /** The answer reached its greatest length. */
  cutByLength?: boolean;
  failure?: Failure;
}

export interface Chat {
  id: string;
  title: string;
  updated: number;
  /** The chosen model; null: the chatbot's default. */
  model: string | null;
  messages: readonly Message[];
  /** Changes with every save, so that a tab notices what another one has written. */
  revision: string;
}

export type ChatEntry = Pick<Chat, 'id' | 'title' | 'updated'>;

export interface PageConfig {
  chatbot: string;
  title: string;
  greeting: string;
  suggestions: readonly string[];
  access: 'APIKey' | 'Anonymous';
  suspended: boolean;
  heartbeatSeconds: number;
}

export interface Download {
  percent: number | null;
  completedBytes: number | null;
  totalBytes: number | null;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
}

export interface Status {
  phase: string;
  fallback: string | null;
  download: Download | null;
}

/** A name that no other has. `crypto.randomUUID` is missing on pages without TLS. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
