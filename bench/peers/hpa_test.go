// Package peers runs other projects' own autoscalers on virtual time, beside what bench/control takes them for.
package peers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	scalefake "k8s.io/client-go/scale/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"tidemark/internal/foresee/peer/horizontal"
)

const (
	tick = 15 * time.Second
	most = 100
)

// cluster is what the controller sees: pods that boot, and how busy they are.
type cluster struct {
	pods     cache.Store
	started  []time.Time
	boot     time.Duration
	busy     float64 // percent of a ready pod's CPU
	replicas int32
}

func (c *cluster) scale(n int32) {
	for int32(len(c.started)) < n {
		c.started = append(c.started, time.Now())
	}
	c.started = c.started[:n]
	c.replicas = n
}

// publish puts the pods into the informer's store.
func (c *cluster) publish() error {
	for i := range most {
		name := fmt.Sprintf("worker-%d", i)
		old, exists, err := c.pods.GetByKey("default/" + name)
		if err != nil {
			return err
		}
		if i >= len(c.started) {
			if exists {
				err = c.pods.Delete(old)
			}
			if err != nil {
				return err
			}
			continue
		}
		ready, since := v1.ConditionFalse, metav1.NewTime(c.started[i])
		if c.ready(i) {
			ready, since = v1.ConditionTrue, metav1.NewTime(c.started[i].Add(c.boot))
		}
		begun := metav1.NewTime(c.started[i])
		err = c.pods.Add(&v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "worker"}},
			Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "worker", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}}}},
			Status:     v1.PodStatus{Phase: v1.PodRunning, StartTime: &begun, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: ready, LastTransitionTime: since}}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) ready(i int) bool { return time.Since(c.started[i]) >= c.boot }

func (c *cluster) serving() (n int) {
	for i := range c.started {
		if c.ready(i) {
			n++
		}
	}
	return n
}

// GetResourceMetric and the others are the controller's metrics client.
func (c *cluster) GetResourceMetric(context.Context, v1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	out := metrics.PodMetricsInfo{}
	for i := range c.started {
		value := int64(0)
		if c.ready(i) {
			value = int64(math.Round(10 * c.busy))
		}
		out[fmt.Sprintf("worker-%d", i)] = metrics.PodMetric{Timestamp: time.Now(), Window: tick, Value: value}
	}
	return out, time.Now(), nil
}

var errAbsent = errors.New("there is no such metric here")

func (*cluster) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errAbsent
}
func (*cluster) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errAbsent
}
func (*cluster) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	return nil, time.Time{}, errAbsent
}

// controller starts the real one against the cluster.
func controller(ctx context.Context, c *cluster, target int32) informers.SharedInformerFactory {
	least := int32(1)
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "worker", Namespace: "default"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &least, MaxReplicas: most,
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "worker", APIVersion: "apps/v1"},
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: v1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target}}}}}}
	client := fake.NewClientset(hpa)
	scales := &scalefake.FakeScaleClient{}
	scales.AddReactor("get", "deployments", func(core.Action) (bool, runtime.Object, error) {
		return true, &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "worker", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: c.replicas},
			Status: autoscalingv1.ScaleStatus{Replicas: c.replicas, Selector: "app=worker"}}, nil
	})
	scales.AddReactor("update", "deployments", func(a core.Action) (bool, runtime.Object, error) {
		o := a.(core.UpdateAction).GetObject()
		c.scale(o.(*autoscalingv1.Scale).Spec.Replicas)
		return true, o, nil
	})
	shared := informers.NewSharedInformerFactory(client, 0)
	pods := shared.Core().V1().Pods()
	c.pods = pods.Informer().GetStore()
	run := podautoscaler.NewHorizontalController(ctx, client.CoreV1(), scales, client.AutoscalingV2(), testrestmapper.TestOnlyStaticRESTMapper(legacyscheme.Scheme), c,
		shared.Autoscaling().V2().HorizontalPodAutoscalers(), pods, tick, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second)
	shared.Start(ctx.Done())
	go run.Run(ctx, 1)
	return shared
}

// The model of the HPA that bench/control compares with keeps the size that the real controller keeps, over six hours that rise and fall, with a crowd.
func TestModelIsTheRealController(t *testing.T) {
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{func(_ context.Context, err error, msg string, _ ...any) { t.Log(msg, err) }}
	for _, boot := range []time.Duration{time.Minute, 5 * time.Minute} {
		t.Run(boot.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				const target = 70
				c := &cluster{boot: boot, replicas: 2, started: make([]time.Time, 2)}
				shared := controller(ctx, c, target)
				time.Sleep(time.Second)
				var model horizontal.HPA
				modelled := cluster{boot: boot, started: make([]time.Time, 2)}
				real, ours, apart, ticks := 0.0, 0.0, 0.0, 0
				for begun := time.Now(); time.Since(begun) < 6*time.Hour; ticks++ {
					at := time.Since(begun).Hours()
					load := 2 + 14*(1-math.Cos(2*math.Pi*at/6))
					if at > 4 && at < 4.5 {
						load *= 2
					}
					c.busy = min(100*load/float64(max(c.serving(), 1)), 100)
					if err := c.publish(); err != nil {
						t.Fatal(err)
					}
					n := len(modelled.started)
					ready := modelled.serving()
					modelled.scale(int32(model.Pods(n, ready, min(100*load/float64(max(ready, 1)), 100)/target)))
					time.Sleep(tick)
					real += float64(c.replicas)
					ours += float64(len(modelled.started))
					apart += math.Abs(float64(int(c.replicas) - len(modelled.started)))
				}
				cancel()
				shared.Shutdown()
				time.Sleep(time.Minute)
				t.Logf("the real controller kept %.2f replicas, the model %.2f, %.2f %% apart at a tick", real/float64(ticks), ours/float64(ticks), 100*apart/real)
				if math.Abs(ours/real-1) > 0.03 || apart/real > 0.1 {
					t.Errorf("the model is not the controller")
				}
			})
		})
	}
}
