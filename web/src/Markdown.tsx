// Draws an answer. Nothing in it is trusted: raw HTML is text, images are links, nothing is fetched.
import { memo, useMemo } from 'react';
import type { ReactNode } from 'react';
import ReactMarkdown from 'react-markdown';
import type { Components } from 'react-markdown';
import remarkGfm from 'remark-gfm';
import remend from 'remend';
import { blocksOf } from './blocks';
import { CodeBlock } from './CodeBlock';
import { Fallback } from './Fallback';
import { text } from './text';

/** Longer blocks are shown as they are: parsing what somebody made to be slow must not freeze the page. */
const LONGEST_PARSED = 30_000;

const plugins = [remarkGfm];

export const Markdown = memo(function Markdown({ source, streaming }: { source: string; streaming: boolean }) {
  const blocks = useMemo(() => blocksOf(source), [source]);
  return (
    <div className="prose">
      {blocks.map((block, index) =>
        block.kind === 'code' ? (
          <CodeBlock key={index} code={block.text} language={block.language} />
        ) : (
          <Prose key={index} source={block.text} unfinished={streaming && index === blocks.length - 1} />
        ),
      )}
    </div>
  );
});

const Prose = memo(function Prose({ source, unfinished }: { source: string; unfinished: boolean }) {
  const plain = <p className="plain">{source}</p>;
  if (source.length > LONGEST_PARSED) return plain;
  return (
    <Fallback plain={plain} source={source}>
      <ReactMarkdown remarkPlugins={plugins} components={components} urlTransform={address}>
        {unfinished ? remend(source) : source}
      </ReactMarkdown>
    </Fallback>
  );
});

/** Only complete addresses of harmless kinds; anything else is no link. */
function address(url: string): string {
  return /^(https?:\/\/|mailto:)/i.test(url) ? url : '';
}

function Link({ href, children }: { href?: string | undefined; children?: ReactNode }) {
  if (!href) return <span>{children}</span>;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

function textIn(node: ReactNode): string {
  if (typeof node === 'string' || typeof node === 'number') return String(node);
  if (Array.isArray(node)) return node.map(textIn).join('');
  if (node && typeof node === 'object' && 'props' in node) {
    return textIn((node.props as { children?: ReactNode }).children);
  }
  return '';
}

function languageOf(node: ReactNode): string {
  const props = node && typeof node === 'object' && 'props' in node ? (node.props as { className?: string }) : {};
  return /language-(\S+)/.exec(props.className ?? '')?.[1] ?? '';
}

const components: Components = {
  a: ({ href, children }) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }) => <Link href={typeof src === 'string' ? src : undefined}>{text.image(alt ?? '')}</Link>,
  pre: ({ children }) => <CodeBlock code={textIn(children).replace(/\n$/, '')} language={languageOf(children)} />,
  input: ({ checked }) => <span className="task">{checked ? '☑' : '☐'}</span>,
  table: ({ children }) => (
    <div className="table" tabIndex={0} role="group" aria-label={text.table}>
      <table>{children}</table>
    </div>
  ),
};
