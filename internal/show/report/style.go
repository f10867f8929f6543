package report

// style is the style sheet of pages; that of charts, whose colours it uses, stands before it.
const style = `
:root{--paper:#fff;--panel:#f5f7f9;--good:#0a7a4b;--warn:#8f5f00}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14181c;--panel:#1c2228;--good:#4fd08f;--warn:#efc14a}}
*{box-sizing:border-box}
:focus-visible{outline:3px solid var(--s1);outline-offset:2px}
body{margin:0;overflow-wrap:break-word;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:68rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .3rem}
h2{font-size:1.15rem;margin:2rem 0 .7rem;padding-top:.8rem;border-top:1px solid var(--rule);break-after:avoid}
.lead{margin:.2rem 0 1rem;max-width:48rem}
.facts{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:0 0 1rem;color:var(--faint);font-size:.88rem}
.facts div{display:flex;gap:.4em}.facts dt::after{content:":"}.facts dd{margin:0;color:var(--ink)}
p{max-width:52rem;margin:.5rem 0}
.note{border-left:3px solid var(--faint);background:var(--panel);padding:.45rem .8rem}
.note.good{border-color:var(--good)}.note.warn{border-color:var(--warn)}.note.bad{border-color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:.6rem;margin:.6rem 0 1.2rem}
.tile{background:var(--panel);border-radius:6px;padding:.6rem .8rem;break-inside:avoid}
.tile b{display:block;font-size:1.35rem;line-height:1.3;font-variant-numeric:tabular-nums}.tile span,.tile small{display:block;font-size:.82rem;color:var(--faint)}
.tile.good b,td.good{color:var(--good)}.tile.warn b,td.warn{color:var(--warn)}.tile.bad b,td.bad{color:var(--bad)}
.wide{overflow-x:auto;margin:.6rem 0 1.2rem}
table{border-collapse:collapse;min-width:100%;font-size:.88rem}
caption{text-align:left;font-weight:600;padding-bottom:.3rem}
th{text-align:left;vertical-align:bottom;color:var(--faint);font-weight:600;border-bottom:1px solid var(--faint);padding:.3rem .6rem .3rem 0}
td{vertical-align:top;border-bottom:1px solid var(--rule);padding:.3rem .6rem .3rem 0;font-variant-numeric:tabular-nums}
td:first-child:not(:has(small)){white-space:nowrap}
td small{display:block;max-width:34rem;color:var(--faint)}
th.n,td.n{text-align:right;white-space:nowrap}
pre{background:var(--panel);border-radius:6px;padding:.6rem .8rem;overflow-x:auto;font-size:.82rem;line-height:1.45}
.empty{color:var(--faint)}
ul{max-width:52rem;margin:.5rem 0 1rem;padding-left:1.2rem}li{margin:.3rem 0}ul.boxes{list-style:none;padding-left:0}ul.boxes li::before{content:"\2610";margin-right:.5em}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:600}
footer{margin-top:2.5rem;padding-top:.6rem;border-top:1px solid var(--rule);color:var(--faint);font-size:.82rem}
@media (max-width:40rem){main{padding:1rem .8rem 2rem}h1{font-size:1.3rem}}
@media print{@page{margin:14mm}.break{break-after:page}table{font-size:8pt}th,td{padding-right:.4rem}main{max-width:none;padding:0}body{font-size:10.5pt}.wide{overflow:visible}tr{break-inside:avoid}thead{display:table-header-group}.tile,.note{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
`
