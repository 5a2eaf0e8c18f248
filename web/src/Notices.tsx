// What is not as usual, above the composer: away, downloading, offline, storage. Nothing here blocks the conversation.
import type { ReactNode } from 'react';
import type { View } from './chats';
import { bytes, span, text } from './text';
import type { Download } from './types';
import type { Service } from './useService';

export interface NoticeActions {
  saveAgain(): void;
  undoRemove(): void;
  forgetRemoved(): void;
}

export function Notices({ service, view, actions }: { service: Service; view: View; actions: NoticeActions }) {
  const { online, away, status, config } = service;
  return (
    <div className="notices">
      {!online && <Notice kind="offline">{text.offline}</Notice>}
      {online && away && !config.suspended && <Notice kind="away">{awayText(away)}</Notice>}
      {config.suspended && <Notice kind="suspended">{text.suspended}</Notice>}
      {status?.download && <Downloading download={status.download} />}
      {status?.fallback && <Notice kind="fallback">{text.fallbackNow(status.fallback)}</Notice>}
      {view.trouble === 'forbidden' && <Notice kind="storage">{text.noStorage}</Notice>}
      {view.trouble === 'full' && (
        <Notice kind="storage" button={text.tryAgain} act={actions.saveAgain}>
          {text.storageFull}
        </Notice>
      )}
      {view.forked && <Notice kind="forked">{text.forked}</Notice>}
      {view.removed && (
        <Notice kind="removed" button={text.undo} act={actions.undoRemove}>
          {text.deleted(view.removed.title)}
        </Notice>
      )}
    </div>
  );
}

function awayText(away: NonNullable<Service['away']>): string {
  if (away === 'unreachable') return text.starting;
  return away.code === 'model_switching' ? text.switching : text.starting;
}

function Notice({ kind, children, button, act }: { kind: string; children: ReactNode; button?: string; act?(): void }) {
  return (
    <div className={`notice ${kind}`}>
      <p>{children}</p>
      {button && (
        <button type="button" className="quiet" onClick={act}>
          {button}
        </button>
      )}
    </div>
  );
}

function Downloading({ download }: { download: Download }) {
  const { percent, completedBytes, totalBytes, bytesPerSecond, secondsLeft } = download;
  const facts = [
    percent !== null && `${Math.floor(percent)} %`,
    completedBytes !== null && totalBytes !== null && `${bytes(completedBytes)} of ${bytes(totalBytes)}`,
    bytesPerSecond !== null && `${bytes(bytesPerSecond)}/s`,
    secondsLeft !== null && text.left(span(secondsLeft)),
  ].filter(Boolean);
  return (
    <div className="notice downloading">
      <p>
        {text.downloading}
        {facts.length > 0 && <span className="facts">{facts.join(' · ')}</span>}
      </p>
      <progress aria-label={text.downloading} max={100} {...(percent === null ? {} : { value: percent })} />
    </div>
  );
}
