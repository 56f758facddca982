// Texts that a sender could choose to harm who looks at them. Whatever runs sets `pwned` on the
// window, so that a test sees it.
const RUN = 'globalThis.pwned=1';

/** Each as long as its column allows at most. */
export const hostile = {
  signal_id: `"><img src=x onerror=${RUN}>'\`&amp;`,
  symbol: '<b onclick=1>\u202eZAR',
  model_name: `<svg onload=${RUN}>\u{1f916}`,
  exchange_order_id: `javascript:${RUN}//'"><a href=#>`,
  reason: `</td></table><script>${RUN}</script>\u2028\u2029 & \u202eevil\u202c \u{1f4a5}\r\n{{1}}`,
  error_code: "'; DROP TABLE signals; --",
  source_module: `<iframe srcdoc="<script>${RUN}">`,
  ticker: "=1+1|'\u05d0\u05d1\u05d2",
  type: '${7*7}<%= 7*7 %>\u200b',
};

export const hostilePayload = {
  script: `<script>${RUN}</script>`,
  '</script><script>globalThis.pwned=1</script>': "as a member's name",
  image: `<img src="https://attacker.invalid/x.png" onerror="${RUN}">`,
  style: '<style>body{display:none}</style><link rel=stylesheet href=//attacker.invalid/x.css>',
  quotes: `"double" 'single' \`back\` \\ / &quot; &#x27;`,
  link: `javascript:${RUN}`,
  emoji: '\u{1f680}\u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u{1f1ff}\u{1f1e6} e\u0301',
  rtl: '\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u202c 123.45',
  separators: 'before\u2028between\u2029after\u0085\u000b\u001b[31m',
  zero_width: 'BTC\u200bUSD\ufeff',
  constructor: { prototype: { pwned: 1 } },
  deep: [[[[[[[['bottom']]]]]]]],
  long: 'x'.repeat(2_000),
  unbroken: '\u{1f4a3}'.repeat(200),
  number: 12345678901234567,
};
