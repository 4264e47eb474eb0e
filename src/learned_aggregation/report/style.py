"""The style sheet of a report: light and dark, wide and narrow, no network."""

from learned_aggregation.report.plots.plot import DARK_PALETTE, PALETTE


def style_sheet() -> str:
    """The CSS; wide tables and heat maps scroll in their own boxes, the page itself never sideways."""
    light, dark = (
        "".join(f"--series-{i}:{color};" for i, color in enumerate(colors))
        for colors in (PALETTE, DARK_PALETTE)
    )
    in_dark = f"@media (prefers-color-scheme:dark){{:root{{{DARK}{dark}}}}}"
    return f":root{{color-scheme:light dark;{LIGHT}{light}}}\n{in_dark}{RULES}"


LIGHT = (
    "--page:#fff;--ink:#1b1f24;--soft:#59636e;--line:#d5dae0;--grid:#8a929b;--panel:#f5f7f9;--best:#dcefe4;"
)
DARK = (
    "--page:#14171b;--ink:#e6e9ed;--soft:#a3acb6;--line:#363d45;--grid:#7d8791;"
    "--panel:#1d2126;--best:#1d4532;"
)
RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
main{max-width:1040px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.2rem;margin:40px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:24px 0 4px}
p{margin:6px 0}
.soft,figcaption span{color:var(--soft);font-size:.87rem}
.notes{margin:12px 0;padding:8px 16px 8px 32px;background:var(--panel);border-left:3px solid var(--series-1)}
.scroll{overflow-x:auto;max-width:100%;margin:8px 0}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;text-align:left;vertical-align:top;overflow-wrap:normal}
th{border-bottom:2px solid var(--line);vertical-align:bottom;font-weight:600;min-width:4.5em}
td{border-bottom:1px solid var(--line);white-space:nowrap}
td.long{white-space:normal;min-width:18em}
.n{text-align:right}
tr.section:not(:first-child) td{border-top:2px solid var(--line)}
tr.group th{padding-top:14px;font-weight:600}
tr.group+tr.section td{border-top:0!important}
td.best b{background:var(--best);border-radius:3px;padding:1px 4px;margin-right:-4px}
th:first-child,td:first-child{position:sticky;left:0;background:var(--page)}
@media (max-width:700px){td.t:first-child{white-space:normal;overflow-wrap:break-word;max-width:9em}}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));
  gap:20px 28px;margin:8px 0}
figure{margin:0;min-width:0}
figure.wide{grid-column:1/-1}
figcaption b{display:block;font-size:.93rem}
figcaption span{display:block}
figure svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif!important}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0;padding:0;list-style:none;font-size:.87rem}
.legend svg{width:28px;height:8px;margin-right:6px;vertical-align:middle}
pre{background:var(--panel);padding:10px 12px;margin:8px 0;overflow-x:auto;
  font:13px/1.45 ui-monospace,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:normal}
pre.wrap{white-space:pre-wrap;overflow-wrap:anywhere}
details>summary{cursor:pointer;margin:8px 0}
"""
