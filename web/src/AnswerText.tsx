// The text of an answer. What draws Markdown is loaded after the page is there; until then the text is plain.
import { lazy, Suspense } from 'react';
import { Fallback } from './Fallback';

export const loadMarkdown = () => import('./Markdown');

const Markdown = lazy(async () => ({ default: (await loadMarkdown()).Markdown }));

export function AnswerText({ source, streaming }: { source: string; streaming: boolean }) {
  const plain = (
    <div className="prose">
      <p className="plain">{source}</p>
    </div>
  );
  return (
    <Fallback plain={plain} source={source}>
      <Suspense fallback={plain}>
        <Markdown source={source} streaming={streaming} />
      </Suspense>
    </Fallback>
  );
}
