package chart

// Style is the style sheet of charts, for a page that shows some. It follows the page's colour scheme; on paper it is light.
const Style = `
:root{--s1:#0068a8;--s2:#c94f00;--s3:#00805c;--s4:#a8478a;--s5:#a87900;--s6:#3b6fd1;--ink:#1c2024;--faint:#667079;--rule:#d9dee3;--bad:#b42318}
@media screen and (prefers-color-scheme:dark){:root{--s1:#5eb3ee;--s2:#ff9a5c;--s3:#3fcf9e;--s4:#e6a0cd;--s5:#efc14a;--s6:#9db8ff;--ink:#e6eaee;--faint:#9aa5af;--rule:#333b43;--bad:#ff8f85}}
.chart{margin:0 0 1.2rem;break-inside:avoid}
.chart figcaption{font-size:.9rem;margin-bottom:.1rem}
.chart .key{white-space:nowrap;margin-left:.8em;color:var(--faint)}
.chart .key i{display:inline-block;width:14px;height:4px;margin-right:.35em;vertical-align:middle;background:var(--c)}
.chart .key i.band,.chart .key i.span{height:10px;opacity:.22}
.chart .key i.limit{background:repeating-linear-gradient(90deg,var(--bad) 0 4px,transparent 4px 7px);height:2px}
.chart>svg{display:block;margin-left:58px;width:calc(100% - 82px);overflow:visible}
.chart svg svg,.alone svg{overflow:visible}
.chart text,.alone text{font:12px system-ui,sans-serif;fill:var(--faint)}
text.y{text-anchor:end;dominant-baseline:middle}
text.x{text-anchor:middle}
.grid{fill:none;stroke:var(--rule);stroke-width:1}
.axis{fill:none;stroke:var(--faint);stroke-width:1}
.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}
.band{--c:var(--s1)}.span{--c:var(--bad)}.limit{--c:var(--bad)}
.plot path,.plot rect{vector-effect:non-scaling-stroke}
.plot .line{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round}
.plot .line.s2{stroke-dasharray:7 2}.plot .line.s3{stroke-dasharray:2 2}.plot .line.s4{stroke-dasharray:9 3 2 3}
.plot .area{fill:var(--c);opacity:.14}
.plot .bar{fill:var(--c)}
.plot .band{fill:var(--c);opacity:.18}
.plot .span{fill:var(--c);opacity:.13}
.plot .limit{fill:none;stroke:var(--c);stroke-width:1.2;stroke-dasharray:4 3}
.mark{overflow:visible;--c:var(--s3)}.mark.bad{--c:var(--bad)}
.mark path{stroke:var(--c);stroke-opacity:.45;fill:var(--c)}
.mark.faint{--c:var(--faint)}.mark.faint path{stroke-opacity:.8;fill:none}
.hit{fill:transparent}.hit:hover{fill:var(--faint);opacity:.15}
@media (max-width:40rem){text.x.odd{display:none}.chart .key{white-space:normal}.chart>svg{margin-left:50px;width:calc(100% - 74px)}}
@media print{.hit{display:none}.chart{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
`
