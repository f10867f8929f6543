// Command control is the control plane that the tests of this module run: kube-apiserver, kube-controller-manager, kube-scheduler
// and kwok in one program, named by its first argument, so that what they share is compiled and linked once. Beside them, Helm's engine.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	node "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat"
	pod "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
)

func main() {
	programs := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": manager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kwok":                    newKwok,
	}
	if len(os.Args) == 2 && os.Args[1] == "stages" { // kwok's own of nodes and pods that are ready at once, to be its --config
		fmt.Print(strings.Join([]string{node.DefaultNodeInit, heartbeat.DefaultNodeHeartbeat, pod.DefaultPodReady, pod.DefaultPodComplete, pod.DefaultPodDelete}, "\n---\n"))
		return
	}
	if len(os.Args) == 4 && os.Args[1] == "chart" {
		text, err := render(os.Args[2], os.Args[3])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print(text)
		return
	}
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: control kube-apiserver|kube-controller-manager|kube-scheduler|kwok [flags], control stages, control chart FOLDER VALUES")
		os.Exit(2)
	}
	name := os.Args[1]
	os.Args = os.Args[1:] // each of them reads its flags from there
	os.Exit(cli.Run(programs[name]()))
}

// newKwok gives kwok its global flags before it reads its own, as its main does.
func newKwok() *cobra.Command {
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, _ = log.InitFlags(ctx, flags)
	ctx, err := config.InitFlags(ctx, flags)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		os.Exit(1)
	}
	command := kwok.NewCommand(ctx)
	command.SetContext(ctx) // its configuration is in it
	command.Version = ""    // its flag would be that of Kubernetes' programs
	command.PersistentFlags().AddFlagSet(flags)
	return command
}

// render is what helm template does: the chart in a folder, with the values of a file, by Helm's own engine.
func render(folder, values string) (string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return "", err
	}
	own, err := chartutil.ReadValuesFile(values)
	if err != nil {
		return "", err
	}
	all, err := chartutil.ToRenderValues(chart, own, chartutil.ReleaseOptions{Name: "shore", Namespace: "dfr", IsInstall: true}, nil)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		out.WriteString("---\n" + files[name] + "\n")
	}
	return out.String(), nil
}
