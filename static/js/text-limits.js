/* How long a text is for a platform, and what is wrong with it: the browser's copy of dalla/text_length.py. No imports.

   weightedLength(text)                 → X's count: Latin 1, other letters 2, an emoji sequence 2, an address 23
   textLength(text, rules)              → the count of the platform: rules.count "weighted" | "characters"
   measure(text, rules, label = "…")    → {used, max, unit, hashtags, mentions, links, problems: [{level, code, message, remedy?}]}
   findLinks(text) / findHashtags(text) / findMentions(text) → [{start, end, text}], positions in UTF-16 as strings have them

   `rules` are the `text` of a platform in GET /api/platforms: {maxLength, count, maxHashtags, warnHashtags, maxMentions,
   captionOptional, warnLinks}. Give findLinks, findHashtags and findMentions a `normalized(text)`.

   Addresses are found as twitter-text does, bare `example.com` included when it ends in a top level domain of the list
   below. Emoji are matched by one pattern instead of Intl.Segmenter: a segmenter also joins what is no emoji, and each
   browser brings its own table, while this count has to agree with the server's. tests/js/text-limits.test.mjs and
   tests/test_text_length.py hold both to the same table and to random texts. */

const LATIN =
  "aaa aarp abarth abb abbott abbvie abc able abogado abudhabi ac academy accenture accountant accountants aco " +
  "active actor ad adac ads adult ae aeg aero aetna af afamilycompany afl africa ag agakhan agency ai aig aigo " +
  "airbus airforce airtel akdn al alfaromeo alibaba alipay allfinanz allstate ally alsace alstom am americanexpress " +
  "americanfamily amex amfam amica amsterdam an analytics android anquan anz ao aol apartments app apple aq " +
  "aquarelle ar arab aramco archi army arpa art arte as asda asia associates at athleta attorney au auction audi " +
  "audible audio auspost author auto autos avianca aw aws ax axa az azure ba baby baidu banamex bananarepublic band " +
  "bank bar barcelona barclaycard barclays barefoot bargains baseball basketball bauhaus bayern bb bbc bbt bbva bcg " +
  "bcn bd be beats beauty beer bentley berlin best bestbuy bet bf bg bh bharti bi bible bid bike bing bingo bio biz " +
  "bj bl black blackfriday blanco blockbuster blog bloomberg blue bm bms bmw bn bnl bnpparibas bo boats boehringer " +
  "bofa bom bond boo book booking boots bosch bostik boston bot boutique box bq br bradesco bridgestone broadway " +
  "broker brother brussels bs bt budapest bugatti build builders business buy buzz bv bw by bz bzh ca cab cafe cal " +
  "call calvinklein cam camera camp cancerresearch canon capetown capital capitalone car caravan cards care career " +
  "careers cars cartier casa case caseih cash casino cat catering catholic cba cbn cbre cbs cc cd ceb center ceo " +
  "cern cf cfa cfd cg ch chanel channel charity chase chat cheap chintai chloe christmas chrome chrysler church ci " +
  "cipriani circle cisco citadel citi citic city cityeats ck cl claims cleaning click clinic clinique clothing " +
  "cloud club clubmed cm cn co coach codes coffee college cologne com comcast commbank community company compare " +
  "computer comsec condos construction consulting contact contractors cooking cookingchannel cool coop corsica " +
  "country coupon coupons courses cpa cr credit creditcard creditunion cricket crown crs cruise cruises csc cu " +
  "cuisinella cv cw cx cy cymru cyou cz dabur dad dance data date dating datsun day dclk dds de deal dealer deals " +
  "degree delivery dell deloitte delta democrat dental dentist desi design dev dhl diamonds diet digital direct " +
  "directory discount discover dish diy dj dk dm dnp do docs doctor dodge dog doha domains doosan dot download " +
  "drive dtv dubai duck dunlop duns dupont durban dvag dvr dz earth eat ec eco edeka edu education ee eg eh email " +
  "emerck energy engineer engineering enterprises epost epson equipment er ericsson erni es esq estate esurance et " +
  "etisalat eu eurovision eus events everbank exchange expert exposed express extraspace fage fail fairwinds faith " +
  "family fan fans farm farmers fashion fast fedex feedback ferrari ferrero fi fiat fidelity fido film final " +
  "finance financial fire firestone firmdale fish fishing fit fitness fj fk flickr flights flir florist flowers " +
  "flsmidth fly fm fo foo food foodnetwork football ford forex forsale forum foundation fox fr free fresenius frl " +
  "frogans frontdoor frontier ftr fujitsu fujixerox fun fund furniture futbol fyi ga gal gallery gallo gallup game " +
  "games gap garden gay gb gbiz gd gdn ge gea gent genting george gf gg ggee gh gi gift gifts gives giving gl glade " +
  "glass gle global globo gm gmail gmbh gmo gmx gn godaddy gold goldpoint golf goo goodhands goodyear goog google " +
  "gop got gov gp gq gr grainger graphics gratis green gripe grocery group gs gt gu guardian gucci guge guide " +
  "guitars guru gw gy hair hamburg hangout haus hbo hdfc hdfcbank health healthcare help helsinki here hermes hgtv " +
  "hiphop hisamitsu hitachi hiv hk hkt hm hn hockey holdings holiday homedepot homegoods homes homesense honda " +
  "honeywell horse hospital host hosting hot hoteles hotels hotmail house how hr hsbc ht htc hu hughes hyatt " +
  "hyundai ibm icbc ice icu id ie ieee ifm iinet ikano il im imamat imdb immo immobilien in inc industries infiniti " +
  "info ing ink institute insurance insure int intel international intuit investments io ipiranga iq ir irish is " +
  "iselect ismaili ist istanbul it itau itv iveco iwc jaguar java jcb jcp je jeep jetzt jewelry jio jlc jll jm jmp " +
  "jnj jo jobs joburg jot joy jp jpmorgan jprs juegos juniper kaufen kddi ke kerryhotels kerrylogistics " +
  "kerryproperties kfh kg kh ki kia kim kinder kindle kitchen kiwi km kn koeln komatsu kosher kp kpmg kpn kr krd " +
  "kred kuokgroup kw ky kyoto kz la lacaixa ladbrokes lamborghini lamer lancaster lancia lancome land landrover " +
  "lanxess lasalle lat latino latrobe law lawyer lb lc lds lease leclerc lefrak legal lego lexus lgbt li liaison " +
  "lidl life lifeinsurance lifestyle lighting like lilly limited limo lincoln linde link lipsy live living lixil lk " +
  "llc llp loan loans locker locus loft lol london lotte lotto love lpl lplfinancial lr ls lt ltd ltda lu lundbeck " +
  "lupin luxe luxury lv ly ma macys madrid maif maison makeup man management mango map market marketing markets " +
  "marriott marshalls maserati mattel mba mc mcd mcdonalds mckinsey md me med media meet melbourne meme memorial " +
  "men menu meo merckmsd metlife mf mg mh miami microsoft mil mini mint mit mitsubishi mk ml mlb mls mm mma mn mo " +
  "mobi mobile mobily moda moe moi mom monash money monster montblanc mopar mormon mortgage moscow moto motorcycles " +
  "mov movie movistar mp mq mr ms msd mt mtn mtpc mtr mu museum mutual mutuelle mv mw mx my mz na nab nadex nagoya " +
  "name nationwide natura navy nba nc ne nec net netbank netflix network neustar new newholland news next " +
  "nextdirect nexus nf nfl ng ngo nhk ni nico nike nikon ninja nissan nissay nl no nokia northwesternmutual norton " +
  "now nowruz nowtv np nr nra nrw ntt nu nyc nz obi observer off office okinawa olayan olayangroup oldnavy ollo om " +
  "omega one ong onion onl online onyourside ooo open oracle orange org organic orientexpress origins osaka otsuka " +
  "ott ovh pa page pamperedchef panasonic panerai paris pars partners parts party passagens pay pccw pe pet pf " +
  "pfizer pg ph pharmacy phd philips phone photo photography photos physio piaget pics pictet pictures pid pin ping " +
  "pink pioneer pizza pk pl place play playstation plumbing plus pm pn pnc pohl poker politie porn post pr " +
  "pramerica praxi press prime pro prod productions prof progressive promo properties property protection pru " +
  "prudential ps pt pub pw pwc py qa qpon quebec quest qvc racing radio raid re read realestate realtor realty " +
  "recipes red redstone redumbrella rehab reise reisen reit reliance ren rent rentals repair report republican rest " +
  "restaurant review reviews rexroth rich richardli ricoh rightathome ril rio rip rmit ro rocher rocks rodeo rogers " +
  "room rs rsvp ru rugby ruhr run rw rwe ryukyu sa saarland safe safety sakura sale salon samsclub samsung sandvik " +
  "sandvikcoromant sanofi sap sapo sarl sas save saxo sb sbi sbs sc sca scb schaeffler schmidt scholarships school " +
  "schule schwarz science scjohnson scor scot sd se search seat secure security seek select sener services ses " +
  "seven sew sex sexy sfr sg sh shangrila sharp shaw shell shia shiksha shoes shop shopping shouji show showtime " +
  "shriram si silk sina singles site sj sk ski skin sky skype sl sling sm smart smile sn sncf so soccer social " +
  "softbank software sohu solar solutions song sony soy space spiegel sport spot spreadbetting sr srl srt ss st " +
  "stada staples star starhub statebank statefarm statoil stc stcgroup stockholm storage store stream studio study " +
  "style su sucks supplies supply support surf surgery suzuki sv swatch swiftcover swiss sx sy sydney symantec " +
  "systems sz tab taipei talk taobao target tatamotors tatar tattoo tax taxi tc tci td tdk team tech technology tel " +
  "telecity telefonica temasek tennis teva tf tg th thd theater theatre tiaa tickets tienda tiffany tips tires " +
  "tirol tj tjmaxx tjx tk tkmaxx tl tm tmall tn to today tokyo tools top toray toshiba total tours town toyota toys " +
  "tp tr trade trading training travel travelchannel travelers travelersinsurance trust trv tt tube tui tunes tushu " +
  "tv tvs tw tz ua ubank ubs uconnect ug uk um unicom university uno uol ups us uy uz va vacations vana vanguard vc " +
  "ve vegas ventures verisign versicherung vet vg vi viajes video vig viking villas vin vip virgin visa vision " +
  "vista vistaprint viva vivo vlaanderen vn vodka volkswagen volvo vote voting voto voyage vu vuelos wales walmart " +
  "walter wang wanggou warman watch watches weather weatherchannel webcam weber website wed wedding weibo weir wf " +
  "whoswho wien wiki williamhill win windows wine winners wme wolterskluwer woodside work works world wow ws wtc " +
  "wtf xbox xerox xfinity xihuan xin xperia xxx xyz yachts yahoo yamaxun yandex ye yodobashi yoga yokohama you " +
  "youtube yt yun za zappos zara zero zip zippo zm zone zuerich zw ";
const OTHER =
  "vermögensberater vermögensberatung ελ ευ бг бел дети ею католик ком мкд мон москва онлайн орг рус рф сайт срб " +
  "укр қаз հայ קום ابوظبي اتصالات ارامكو الاردن البحرين الجزائر السعودية العليان المغرب امارات ایران بارت بازار " +
  "بيتك بھارت تونس سودان سورية شبكة عراق عرب عمان فلسطين قطر كاثوليك كوم مصر مليسيا موبايلي موريتانيا موقع همراه " +
  "پاکستان ڀارت कॉम नेट भारत भारतम् भारोत संगठन বাংলা ভারত ভাৰত ਭਾਰਤ ભારત ଭାରତ இந்தியா இலங்கை சிங்கப்பூர் భారత్ " +
  "ಭಾರತ ഭാരതം ලංකා คอม ไทย ລາວ გე みんな クラウド グーグル コム ストア セール ファッション ポイント 世界 中信 中国 中國 中文网 企业 佛山 信息 健康 八卦 公司 公益 台湾 台灣 " +
  "商城 商店 商标 嘉里 嘉里大酒店 在线 大众汽车 大拿 天主教 娱乐 家電 工行 广东 微博 慈善 我爱你 手机 手表 招聘 政务 政府 新加坡 新闻 时尚 書籍 机构 淡马锡 游戏 澳門 点看 珠宝 移动 组织机构 网址 " +
  "网店 网站 网络 联通 诺基亚 谷歌 购物 通販 集团 電訊盈科 飞利浦 食品 餐厅 香格里拉 香港 닷넷 닷컴 삼성 한국 ";

const BASE =
  String.raw`[\u{a9}\u{ae}\u{203c}\u{2049}\u{2122}\u{2139}\u{2194}-\u{2199}\u{21a9}\u{21aa}\u{231a}\u{231b}\u{2328}` +
  String.raw`\u{23cf}\u{23e9}-\u{23f3}\u{23f8}-\u{23fa}\u{24c2}\u{25aa}\u{25ab}\u{25b6}\u{25c0}\u{25fb}-\u{25fe}` +
  String.raw`\u{2600}-\u{2604}\u{260e}\u{2611}\u{2614}\u{2615}\u{2618}\u{261d}\u{2620}\u{2622}\u{2623}\u{2626}\u{262a}` +
  String.raw`\u{262e}\u{262f}\u{2638}-\u{263a}\u{2640}\u{2642}\u{2648}-\u{2653}\u{265f}\u{2660}\u{2663}\u{2665}\u{2666}` +
  String.raw`\u{2668}\u{267b}\u{267e}\u{267f}\u{2692}-\u{2697}\u{2699}\u{269b}\u{269c}\u{26a0}\u{26a1}\u{26a7}\u{26aa}` +
  String.raw`\u{26ab}\u{26b0}\u{26b1}\u{26bd}\u{26be}\u{26c4}\u{26c5}\u{26c8}\u{26ce}\u{26cf}\u{26d1}\u{26d3}\u{26d4}` +
  String.raw`\u{26e9}\u{26ea}\u{26f0}-\u{26f5}\u{26f7}-\u{26fa}\u{26fd}\u{2702}\u{2705}\u{2708}-\u{270d}\u{270f}\u{2712}` +
  String.raw`\u{2714}\u{2716}\u{271d}\u{2721}\u{2728}\u{2733}\u{2734}\u{2744}\u{2747}\u{274c}\u{274e}\u{2753}-\u{2755}` +
  String.raw`\u{2757}\u{2763}\u{2764}\u{2795}-\u{2797}\u{27a1}\u{27b0}\u{27bf}\u{2934}\u{2935}\u{2b05}-\u{2b07}\u{2b1b}` +
  String.raw`\u{2b1c}\u{2b50}\u{2b55}\u{3030}\u{303d}\u{3297}\u{3299}\u{1f004}\u{1f0cf}\u{1f170}\u{1f171}\u{1f17e}` +
  String.raw`\u{1f17f}\u{1f18e}\u{1f191}-\u{1f19a}\u{1f201}\u{1f202}\u{1f21a}\u{1f22f}\u{1f232}-\u{1f23a}\u{1f250}` +
  String.raw`\u{1f251}\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f7e0}-\u{1f7eb}\u{1f7f0}\u{1f90c}-\u{1f9ff}` +
  String.raw`\u{1fa70}-\u{1faff}]`;
const LATIN_MARKS =
  String.raw`\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{24f}\u{253}\u{254}\u{256}\u{257}\u{259}\u{25b}\u{263}\u{268}\u{26f}` +
  String.raw`\u{272}\u{289}\u{28b}\u{2bb}\u{300}-\u{36f}\u{1e00}-\u{1eff}`;
const MARKS =
  String.raw`\u{202a}-\u{202e}\u{61c}\u{200e}\u{200f}\u{2066}-\u{2069}`;
const SPACES =
  String.raw`\u{9}-\u{d} \u{85}\u{a0}\u{1680}\u{180e}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}`;
const ONE = `${BASE}(?:[\u{1f3fb}-\u{1f3ff}]|\u{fe0f})?`;
const EMOJI = new RegExp(
  String.raw`[\u{1f1e6}-\u{1f1ff}]{2}|[0-9#*]\u{fe0f}?\u{20e3}|\u{1f3f4}[\u{e0020}-\u{e007e}]+\u{e007f}|` +
    `${ONE}(?:\u200d${ONE})*`,
  "gu",
);
const WEIGHT_ONE = [
  [0x0000, 0x10ff],
  [0x2000, 0x200d],
  [0x2010, 0x201f],
  [0x2032, 0x2037],
];
const FORBIDDEN = /[\ufffe\ufeff\uffff]/;
const LINK_WEIGHT = 23;

const NOT_DOMAIN = String.raw`!'#%&\(\)*+,\\\-.\/:;<=>?@\[\]\^_\{\|\}~$` + SPACES + String.raw`\ufffe\ufeff\uffff` + MARKS;
const RUN = new RegExp(`(?:[^${NOT_DOMAIN}]|[.\\-_])+`, "gu");
const REFUSED_BEFORE = /[A-Za-z0-9@＠$#＃\ufffe\ufeff\uffff]/u;
const PATH_CHARS = String.raw`a-zA-Z\u0400-\u04ff0-9!*';:=+,.$\/%#\[\]\-\u2013_~@\|&` + LATIN_MARKS;
const PARENTHESES = new RegExp(
  String.raw`\((?:[${PATH_CHARS}]+|[${PATH_CHARS}]*\([${PATH_CHARS}]+\)[${PATH_CHARS}]*)\)`,
  "uy",
);
const PATH_RUN = new RegExp(`[${PATH_CHARS}]+`, "uy");
const PATH_END = new RegExp(String.raw`[+\-a-zA-Z\u0400-\u04ff0-9=_#\/${LATIN_MARKS}]`, "u");
const QUERY = /\?[a-zA-Z0-9!?*'@();:&=+$/%#[\]\-_.,~|]*/y;
const QUERY_END = /[a-zA-Z0-9\-_&=#/]/;
const PORT = /:[0-9]+/y;
const TCO = /^https?:\/\/t\.co\/([a-z0-9]+)/i;
const MENTION = /(?<![A-Za-z0-9_!#$%&*@＠.])[@＠][A-Za-z0-9_](?:[A-Za-z0-9_.]*[A-Za-z0-9_])?/g;
const WORD = /[\p{L}\p{M}\p{N}_\u200c\u200d]/u;
const LETTER = /[\p{L}\p{M}]/u;

const names = `${OTHER} ${LATIN}`
  .split(" ")
  .filter(Boolean)
  .sort((a, b) => b.length - a.length || (a < b ? -1 : 1))
  .join("|");
const TOP = String.raw`(?:(?:${names})(?=[^0-9a-zA-Z@+\-]|$)|xn--[\-0-9a-z]+)`;
const TOP_LEVEL = new RegExp(TOP, "iuy");
const PLAIN_DOMAIN = new RegExp(`(?:[\\-a-z0-9${LATIN_MARKS}]+\\.)+${TOP}`, "giu");

/** The text as X counts it: composed characters, lines ended by \n. */
export const normalized = (text) => String(text ?? "").replace(/\r\n?/g, "\n").normalize("NFC");

/** The length of a text as X counts it; 280 is the most a post may have. */
export function weightedLength(text) {
  const clean = normalized(text);
  const links = findLinks(clean);
  let total = links.length * LINK_WEIGHT;
  let at = 0;
  for (const link of [...links, { start: clean.length, end: clean.length }]) {
    const plain = clean.slice(at, link.start).replace(EMOJI, () => {
      total += 2;
      return "";
    });
    for (const char of plain) total += weight(char.codePointAt(0));
    at = link.end;
  }
  return total;
}

/** The length in the platform's own count. */
export function textLength(text, rules) {
  if (rules.count === "weighted") return weightedLength(text);
  return [...String(text ?? "").replace(/\r\n/g, "\n")].length;
}

/** Measure a text for a platform and say what is wrong with it; the sentences are the server's. */
export function measure(text, rules, label = "This platform") {
  const clean = normalized(text);
  const links = findLinks(clean);
  const bare = without(clean, links);
  const weighted = rules.count === "weighted";
  const unit = weighted ? "weighted characters" : "characters";
  const used = textLength(text, rules);
  const max = rules.maxLength;
  const hashtags = findHashtags(bare).length;
  const mentions = findMentions(bare).length;
  const problems = [];
  const add = (level, code, message, remedy) => problems.push(remedy ? { level, code, message, remedy } : { level, code, message });
  if (used > max)
    add("error", "caption_too_long", `${label} takes ${n(max)} ${unit}; this text has ${n(used)}.`, `Shorten it by ${n(used - max)}.`);
  if (!clean.trim() && rules.captionOptional === false) add("error", "caption_empty", `${label} needs a text.`, "Write a caption.");
  if (rules.maxHashtags != null && hashtags > rules.maxHashtags)
    add(
      "error",
      "too_many_hashtags",
      `${label} takes at most ${rules.maxHashtags} hashtags; this text has ${hashtags}.`,
      `Remove ${hashtags - rules.maxHashtags}.`,
    );
  else if (rules.warnHashtags != null && hashtags > rules.warnHashtags)
    add(
      "warning",
      "many_hashtags",
      `${label} counts only ${rules.warnHashtags} hashtags; this text has ${hashtags}.`,
      `Keep the best ${rules.warnHashtags}.`,
    );
  if (rules.maxMentions != null && mentions > rules.maxMentions)
    add(
      "error",
      "too_many_mentions",
      `${label} takes at most ${rules.maxMentions} mentions; this text has ${mentions}.`,
      `Remove ${mentions - rules.maxMentions}.`,
    );
  if (rules.warnLinks && links.length) add("warning", "links", rules.warnLinks);
  if (weighted && FORBIDDEN.test(String(text ?? "")))
    add(
      "error",
      "forbidden_characters",
      `The text has an invisible character that ${label} refuses.`,
      "Type the text anew instead of pasting it.",
    );
  return { used, max, unit, hashtags, mentions, links: links.length, problems };
}

/** What X makes a link of. */
export function findLinks(text) {
  const found = [];
  if (!text.includes(".")) return found;
  let position = 0; // everything before belongs to a link
  for (const run of text.matchAll(RUN)) {
    const start = run.index;
    const limit = start + run[0].length;
    if (limit <= position || !run[0].includes(".")) continue;
    const scheme = schemeBefore(text, start);
    if (scheme !== null && scheme >= position && mayStart(text, scheme, position)) {
      const stop = domainEnd(text, start, limit)[0];
      if (stop !== null) {
        let end = rest(text, stop);
        position = end;
        const short = TCO.exec(text.slice(scheme, end));
        if (short) {
          end = scheme + short[0].length;
          end = query(text, end) ?? end;
        }
        if (!short || short[1].length <= 40) found.push({ start: scheme, end, text: text.slice(scheme, end) });
      }
    }
    position = bareLinks(text, Math.max(start, position), limit, position, found);
  }
  return found;
}

/** `#` or `＃` and letters, marks, digits, `_`; not digits alone. */
export function findHashtags(text) {
  const found = [];
  let i = 0;
  while (i < text.length) {
    if (text[i] !== "#" && text[i] !== "＃") {
      i += 1;
      continue;
    }
    let end = i + 1;
    let letter = false;
    for (let char; end < text.length && WORD.test((char = at(text, end))); end += char.length) letter ||= LETTER.test(char);
    const joined = found.length > 0 && found.at(-1).end === i;
    const before = i > 0 ? charBefore(text, i) : "";
    if (letter && (i === 0 || joined || !(WORD.test(before) || before === "&" || before === "/")))
      found.push({ start: i, end, text: text.slice(i, end) });
    i = end;
  }
  return found;
}

/** `@` and a name. */
export const findMentions = (text) =>
  [...text.matchAll(MENTION)].map((m) => ({ start: m.index, end: m.index + m[0].length, text: m[0] }));

// ---------------------------------------------------------------- parts

const n = (value) => value.toLocaleString("en-US");
const at = (text, i) => String.fromCodePoint(text.codePointAt(i));
const weight = (code) => (WEIGHT_ONE.some(([low, high]) => low <= code && code <= high) ? 1 : 2);

function charBefore(text, i) {
  const low = text.charCodeAt(i - 1);
  return low >= 0xdc00 && low <= 0xdfff && i > 1 ? text.slice(i - 2, i) : text[i - 1];
}

function without(text, spans) {
  for (const { start, end } of spans) text = text.slice(0, start) + " ".repeat(end - start) + text.slice(end);
  return text;
}

/** Match a sticky pattern at a place; the match or null. */
function matchAt(pattern, text, i) {
  pattern.lastIndex = i;
  return pattern.exec(text);
}

const mayStart = (text, start, floor) => start === 0 || (start > floor && !REFUSED_BEFORE.test(text[start - 1]));

function schemeBefore(text, start) {
  for (const size of [8, 7]) if (start >= size && /^https?:\/\/$/i.test(text.slice(start - size, start))) return start - size;
  return null;
}

/** Labels, dots and a top level domain from `start` on: [end or null, where the next may begin]. */
function domainEnd(text, start, limit) {
  let end = null;
  let label = start;
  let previous = start;
  while (label < limit) {
    if (label > start) {
      const top = matchAt(TOP_LEVEL, text, label);
      if (top && !text.slice(previous, label).includes("_")) end = label + top[0].length;
    }
    const dot = text.indexOf(".", label);
    if (dot < 0 || dot >= limit) return [end, limit];
    if (dot === label || "-_".includes(text[dot - 1])) return [end, dot + 1];
    if ("-_".includes(text[label])) return [end, Math.max(label, start + 1)];
    previous = label;
    label = dot + 1;
  }
  return [end, limit];
}

/** Addresses without a scheme between `start` and `limit`; returns the new floor. */
function bareLinks(text, start, limit, floor, found) {
  let i = start;
  while (i < limit) {
    if ("-_.".includes(text[i]) || isTail(text, i) || !mayStart(text, i, floor)) {
      i += 1;
      continue;
    }
    const [stop, following] = domainEnd(text, i, limit);
    if (stop === null) {
      i = Math.max(i + 1, following);
      continue;
    }
    const end = rest(text, stop);
    if (!(i > 0 && "-_./".includes(text[i - 1]))) {
      const plain = [...text.slice(i, stop).matchAll(PLAIN_DOMAIN)];
      plain.forEach((match, number) => {
        const from = i + match.index;
        const withPath = number === plain.length - 1 && text[port(text, stop)] === "/";
        const to = withPath ? end : from + match[0].length;
        found.push({ start: from, end: to, text: text.slice(from, to) });
      });
    }
    floor = i = end;
  }
  return floor;
}

const isTail = (text, i) => {
  const code = text.charCodeAt(i);
  return code >= 0xdc00 && code <= 0xdfff;
};

/** The end of port, path and query that follow a domain. */
function rest(text, start) {
  let end = port(text, start);
  if (text[end] === "/") end = path(text, end);
  return query(text, end) ?? end;
}

const port = (text, start) => start + (matchAt(PORT, text, start)?.[0].length ?? 0);

function path(text, slash) {
  let i = slash + 1;
  let good = i;
  while (i < text.length) {
    const group = text[i] === "(" ? matchAt(PARENTHESES, text, i) : null;
    if (group) {
      i = good = i + group[0].length;
      continue;
    }
    const run = matchAt(PATH_RUN, text, i);
    if (!run) break;
    for (let j = run[0].length - 1; j >= 0; j -= 1)
      if (PATH_END.test(run[0][j])) {
        good = i + j + 1;
        break;
      }
    i += run[0].length;
  }
  return good;
}

function query(text, start) {
  const match = matchAt(QUERY, text, start);
  if (!match) return null;
  for (let j = match[0].length - 1; j > 0; j -= 1) if (QUERY_END.test(match[0][j])) return start + j + 1;
  return null;
}
