// The chatbot's answers that are not streams: config.json, models, status; and what a refusal looks like.
import { text } from './text';
import type { Download, Failure, PageConfig, Status } from './types';

/** A request that did not succeed. */
export class Refused extends Error {
  constructor(readonly failure: Failure) {
    super(failure.message);
  }
}

const TIMEOUT_MS = 10_000;

const DEFAULTS: PageConfig = {
  chatbot: 'chatbot',
  title: '',
  greeting: '',
  suggestions: [],
  access: 'Anonymous',
  suspended: false,
  heartbeatSeconds: 10,
};

type Json = Record<string, unknown>;

export function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

export function string(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** Seconds, or a date, as the time in milliseconds when to try again. Of two joined by a proxy, the first. */
export function retryTime(header: string | null, now: number): number | null {
  const seconds = /^\s*(\d+)/.exec(header ?? '')?.[1];
  if (seconds !== undefined) return now + Number(seconds) * 1000;
  const date = /^[A-Z][a-z]{2}, /.test(header ?? '') ? Date.parse(header ?? '') : NaN;
  return Number.isFinite(date) ? date : null;
}

/** What an answer that is not 2xx says. Proxies in between answer in their own words. */
export async function failureOf(response: Response, requestId: string): Promise<Failure> {
  const body = await response.text().catch(() => '');
  let error: Json = {};
  try {
    error = object(object(JSON.parse(body))['error']);
  } catch {
    // Not JSON: the status must do.
  }
  return {
    message: string(error['message']) ?? text.unexpectedStatus(response.status),
    code: string(error['code']) ?? String(response.status),
    status: response.status,
    requestId: response.headers.get('x-request-id') ?? requestId,
    retryAt: retryTime(response.headers.get('retry-after'), Date.now()),
  };
}

export function headersFor(key: string | null): Record<string, string> {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function get(path: string, key: string | null): Promise<unknown> {
  const response = await fetch(path, {
    headers: headersFor(key),
    cache: 'no-store',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!response.ok) throw new Refused(await failureOf(response, ''));
  return response.json();
}

export async function fetchConfig(): Promise<PageConfig> {
  const given = object(await get('/config.json', null));
  const suggestions = Array.isArray(given['suggestions']) ? given['suggestions'] : [];
  return {
    chatbot: string(given['chatbot']) ?? DEFAULTS.chatbot,
    title: string(given['title']) ?? text.untitled,
    greeting: string(given['greeting']) ?? '',
    suggestions: suggestions.filter((one): one is string => typeof one === 'string'),
    access: given['access'] === 'APIKey' ? 'APIKey' : 'Anonymous',
    suspended: given['suspended'] === true,
    heartbeatSeconds: number(given['heartbeatSeconds']) ?? DEFAULTS.heartbeatSeconds,
  };
}

export const initialConfig = DEFAULTS;

export async function fetchModels(key: string | null): Promise<string[]> {
  const data = object(await get('/v1/models', key))['data'];
  return (Array.isArray(data) ? data : []).flatMap((model) => string(object(model)['id']) ?? []);
}

export async function fetchStatus(): Promise<Status> {
  const given = object(await get('/v1/status', null));
  return {
    phase: string(given['phase']) ?? '',
    fallback: string(given['fallback']) ?? null,
    download: given['download'] ? download(object(given['download'])) : null,
  };
}

function download(given: Json): Download {
  return {
    percent: number(given['percent']),
    completedBytes: number(given['completedBytes']),
    totalBytes: number(given['totalBytes']),
    bytesPerSecond: number(given['bytesPerSecond']),
    secondsLeft: number(given['secondsLeft']),
  };
}
