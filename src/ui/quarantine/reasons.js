// Why a delivery is kept, what helps, and whether the same bytes can ever become a signal.

/** `odds`: what a release will most likely do. `now`, `setup` (the source's), or `never`. */
const REASONS = {
  lockdown: {
    means: 'It came while the ledger was locked down, when no row may be appended.',
    helps: 'Release it once the lockdown is lifted, in the order of the ids.',
    odds: 'now',
  },
  missing_field: {
    means: 'A member of which the signal is made is not there.',
    helps: 'Let the source’s mapping name the member or a default, then release it; or have it '
      + 'sent again with the member.',
    odds: 'setup',
  },
  invalid_field: {
    means: 'A member holds a value that no signal can have.',
    helps: 'Have the sender correct the value; where another member is meant, let the source’s '
      + 'mapping name it, then release it.',
    odds: 'setup',
  },
  too_long: {
    means: 'A value is longer than its column, and nothing is ever cut.',
    helps: 'Have the sender shorten it; where another member is meant, let the source’s mapping '
      + 'name it, then release it.',
    odds: 'setup',
  },
  precision_loss: {
    means: 'A number has more digits than the ledger keeps, and nothing is ever rounded.',
    helps: 'Have the sender round it to ten digits after the point and send it again.',
    odds: 'setup',
  },
  conflicting_duplicate: {
    means: 'Its signal_id was recorded before with another body; the first one stays.',
    helps: 'Give every signal an id of its own: an order’s id alone is often not unique.',
    odds: 'never',
  },
  malformed_json: {
    means: 'Its bytes are not JSON.',
    helps: 'Correct the sender’s template (quotes, commas, a text cut short) and send it again.',
    odds: 'never',
  },
  not_an_object: {
    means: 'Its bytes are JSON, but not one object.',
    helps: 'Send each signal alone, as one JSON object.',
    odds: 'never',
  },
  duplicate_member: {
    means: 'A member stands twice in one object, so it is open which one counts.',
    helps: 'Take one of the two out of the sender’s template and send it again.',
    odds: 'never',
  },
  invalid_utf8: {
    means: 'Its bytes are not UTF-8 text.',
    helps: 'Have the sender encode its text as UTF-8 and send it again.',
    odds: 'never',
  },
  nul_character: {
    means: 'A text holds the character U+0000, which PostgreSQL cannot store.',
    helps: 'Take it out of what the sender fills in and send it again.',
    odds: 'never',
  },
};

/** The names of all of them. */
export const REASON_NAMES = Object.keys(REASONS);

/** What a reason means, what helps, and what to expect of a release. */
export function reasonOf(name) {
  return REASONS[name] ?? {
    means: 'No signal could be made of it.', helps: 'The detail says why.', odds: 'setup',
  };
}

const ODDS = {
  now: 'What stood in the way was the lockdown alone, so it should become a signal now.',
  setup: 'Unless the source is set up otherwise than when it came, it will be refused again.',
  never: 'The bytes are the same as then, so it will most likely be refused again.',
};

/** What to expect of a release, as a sentence. */
export function oddsOf(name) {
  return ODDS[reasonOf(name).odds];
}

const MARK = '; sender: ';

/**
 * A kept detail in its two parts: what people are told, and who sent the delivery, which stands at
 * its end. What is not exactly that belongs to the first part.
 * @returns {{told: string, sender: {recorded_by: string, webhook_id: string | null} | null}}
 */
export function detailOf(detail) {
  const text = detail ?? '';
  const at = text.lastIndexOf(MARK);
  const none = { told: text, sender: null };
  if (at < 0) return none;
  try {
    const { recorded_by: by, webhook_id: id, ...more } = JSON.parse(text.slice(at + MARK.length));
    const isSender = typeof by === 'string' && (id === null || typeof id === 'string');
    if (!isSender || Object.keys(more).length > 0) return none;
    return { told: text.slice(0, at), sender: { recorded_by: by, webhook_id: id } };
  } catch {
    return none;
  }
}
