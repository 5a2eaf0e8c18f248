// What cannot be drawn is shown as plain text, and tried again when it has changed.
import { Component } from 'react';
import type { ReactNode } from 'react';

interface Properties {
  plain: ReactNode;
  source: string;
  children: ReactNode;
}

export class Fallback extends Component<Properties, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override componentDidUpdate(before: Properties): void {
    if (this.state.failed && before.source !== this.props.source) this.setState({ failed: false });
  }

  override render(): ReactNode {
    return this.state.failed ? this.props.plain : this.props.children;
  }
}
